-- A rollout's part of the gateway: who asks the candidate, whose request is copied, how fast and how well it answered.
--
-- txn.rollout is the model's entry in rollout.map: SLOT|CANARY|COPIED|VERSION, the two shares in thousandths. Who asks
-- for VERSION gets the candidate, who asks for another one never does. Copies and counts go to the launcher's socket,
-- in tasks of their own: no request waits for them, and what cannot be sent in time is left out.

local SOCKET = os.getenv("ROLLOUT_SOCKET")
local MOST_COPIES = 8 -- under way at a time, for each thread
local TIMEOUT_S, FLUSH_MS, MOST_COUNTS = 2, 100, 20000
local copies, counts, flushing = 0, {}, false

math.randomseed(os.time() + (core.thread or 0))

local function send(...)
  local socket = core.tcp()
  socket:settimeout(TIMEOUT_S)
  if socket:connect(SOCKET) then
    for _, part in ipairs({ ... }) do
      if not socket:send(part) then break end
    end
  end
  socket:close()
end

local function is_whole(kind, body, size)
  if kind == "grpc" then
    return #body >= 5 and body:byte(1) == 0 and string.unpack(">I4", body, 2) == #body - 5
  end
  return #body == size
end

local function copy(txn, kind)
  local body = txn.f:req_body()
  if copies >= MOST_COPIES or not body or not is_whole(kind, body, txn.f:req_body_size()) then return end
  local head = txn.f:req_hdr("inference-header-content-length") or ""
  local first = string.format("copy %s %s %s %d\n", kind, txn.f:path(), head:match("^%d+$") or "-", #body)
  copies = copies + 1
  core.register_task(function()
    pcall(send, first, body)
    copies = copies - 1
  end)
end

-- Whether the candidate has a place free: else the request is any server's, and not refused.
local function is_free(txn, slot)
  local backend = txn:get_var("txn.kind") == "grpc" and "triton_grpc/" or "triton_http/"
  return txn.f:srv_conn_free(backend .. slot) > 0
end

core.register_action("rollout", { "http-req" }, function(txn)
  local slot, canary, copied, version = txn:get_var("txn.rollout"):match("^(%w+)|(%d+)|(%d+)|(%d*)$")
  if not slot then return end
  local asked = txn:get_var("txn.version") or ""
  if asked ~= "" then
    if asked == version then txn:set_var("txn.candidate", slot) end
    return
  end
  if txn:get_var("txn.endpoint") ~= "infer" then return end
  if tonumber(canary) > 0 then
    local now = core.now()
    txn:set_var("txn.rollout_began", string.format("%d.%06d", now.sec, now.usec))
    if math.random(1000) <= tonumber(canary) and is_free(txn, slot) then txn:set_var("txn.candidate", slot) end
  end
  if math.random(1000) <= tonumber(copied) then copy(txn, txn:get_var("txn.kind")) end
end)

local function flush()
  core.msleep(FLUSH_MS)
  local lines = table.concat(counts)
  counts, flushing = {}, false
  pcall(send, "seen\n", lines)
end

core.register_action("rollout_seen", { "http-res" }, function(txn)
  local began = txn:get_var("txn.rollout_began")
  if not began or #counts >= MOST_COUNTS then return end
  local now = core.now()
  local ms = (now.sec + now.usec / 1e6 - tonumber(began)) * 1e3
  local grpc = txn.f:res_hdr("grpc-status") or "0"
  counts[#counts + 1] = string.format("%s %d %s %.3f\n", txn.f:srv_name(), txn.f:status(), grpc, ms)
  if not flushing then
    flushing = true
    core.register_task(flush)
  end
end)
