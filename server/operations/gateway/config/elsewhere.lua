-- Which server is asked for a model that others lack.
--
-- txn.served_by is the model's entry in elsewhere.map: the servers that have it, as "s1,s3"; "-" where it is being loaded again
-- and nobody has it. txn.stays is the number of the server that has the request's sequence, if it is of one. Sets txn.elsewhere
-- to that server if it is up and has the model, else to the one of them that is up and has least to do. "~s1,s3" is where every
-- server has the model: a sequence stays with its own, if that is up, and where s1 and s3 have no room any server is asked, as if
-- there were no entry.

-- Before 3.1 a boolean is a number in Lua, where 0 is true.
local function is_up(txn, server)
  local up = txn.f:srv_is_up(server)
  return up == true or up == 1
end

core.register_action("elsewhere", { "http-req" }, function(txn)
  local backend, served_by, fewest, chosen = txn.f:be_name() .. "/", txn:get_var("txn.served_by"), math.huge, nil
  local stays = txn:get_var("txn.stays") or 0 -- 0 is of no sequence that is known
  local of_sequence = "s" .. stays
  for slot in served_by:gmatch("s%d+") do
    local connections = txn.f:srv_conn(backend .. slot) -- 2.6 writes into the string that it is given: each call has its own
    if slot == of_sequence then connections = -1 end
    if connections < fewest and is_up(txn, backend .. slot) then
      fewest, chosen = connections, slot
    end
  end
  local all_have_it = served_by:find("^~")
  if all_have_it and stays > 0 and is_up(txn, backend .. of_sequence) then
    txn:unset_var("txn.served_by") -- `stick on` keeps it there
  elseif all_have_it and not (chosen and txn.f:srv_conn_free(backend .. chosen) > 0) then
    txn:unset_var("txn.served_by")
  elseif chosen then
    txn:set_var("txn.elsewhere", chosen)
  end
end)
