-- Which server is asked for a model that others lack.
--
-- txn.served_by is the model's entry in elsewhere.map: the servers that have it, as "s1,s3"; "-" where it is being loaded again
-- and nobody has it. Sets txn.elsewhere to the one of them that is up and has least to do.

core.register_action("elsewhere", { "http-req" }, function(txn)
  local backend, fewest = txn.f:be_name() .. "/", math.huge
  for slot in txn:get_var("txn.served_by"):gmatch("s%d+") do
    local connections = txn.f:srv_conn(backend .. slot) -- 2.6 writes into the string that it is given: each call has its own
    if connections < fewest and txn.f:srv_is_up(backend .. slot) then
      fewest = connections
      txn:set_var("txn.elsewhere", slot)
    end
  end
end)
