-- The rules on requests, as HAProxy loads them:
--
--   setenv RULES_OUTPUTS FILE   # RULES_OWNERS, a file that is empty at first, and the numbers of `DEFAULTS` below, as RULES_BODY_BYTES; RULES_SHARED_MEMORY yes
--   lua-prepend-path FOLDER/?.lua
--   lua-load-per-thread FOLDER/rules.lua
--
--   filter lua.rules            # in the frontend: reads bodies as they pass
--   http-request set-var(txn.rules_head) req.body,bytes(0,2048)  # of gRPC calls; Lua could copy no less than all
--   http-request lua.rules      # looks at the headers, and refuses what the filter would not see
--
-- See docs/decisions/0052 for why a filter.

local grpc_messages = require("grpc_messages")
local owners = require("owners")
local requests = require("requests")

local HOLD_BYTES = 8192 -- less is not passed on before the body or a message ends; a buffer of HAProxy has at least 16384

local PIECE_BYTES = 2048 -- that are looked at at a time
local END_BYTES = 1 -- that HAProxy counts for the end of a request, if that came alone; trailers are longer
local MOST_SWALLOWED = 64 * 1024 * 1024 -- of a gRPC call that is refused

-- Kind of what is wrong -> HTTP status, gRPC status.
local STATUSES = {
  malformed = { 400, 3 }, forbidden = { 400, 3 }, path = { 404, 12 }, method = { 405, 12 }, length = { 411, 3 },
  owned = { 403, 7 }, many = { 429, 8 }, size = { 413, 8 }, type = { 415, 3 }, compressed = { 415, 12 }, broken = { 500, 13 },
}
local BROKEN = { "broken", "the gateway could not look at the request: see its log" }

local DEFAULTS = {
  BODY_BYTES = 16 * 1024 * 1024, -- of an inference request
  JSON_BYTES = 8 * 1024 * 1024, -- of JSON that carries tensors, or is for `generate`
  HEAD_BYTES = 256 * 1024, -- of the JSON before binary tensors
  SMALL_BYTES = 64 * 1024, -- of any other request
  JSON_DEPTH = 32,
}

-- The number in the environment; HAProxy 2.6 gives arguments to no file that each thread loads.
local function setting(name)
  local text = os.getenv("RULES_" .. name)
  local value = math.tointeger(tonumber(text or DEFAULTS[name]))
  return value and value > 0 and value or error("rules.lua: RULES_" .. name .. " is no number of bytes or levels: " .. text)
end

local outputs = Map.new(os.getenv("RULES_OUTPUTS") or error("rules.lua: RULES_OUTPUTS names no file"), Map._str)

local owners_file = os.getenv("RULES_OWNERS") or error("rules.lua: RULES_OWNERS names no file")
local owners_map = Map.new(owners_file, Map._str)
local sequences = owners.new({
  get = function(id) return owners_map:lookup(id) end,
  set = function(id, text) core.set_map(owners_file, id, text) end,
  remove = function(id) core.del_map(owners_file, id) end,
  now = function() return core.now().sec end,
})

local rules = {
  body_bytes = setting("BODY_BYTES"), json_bytes = setting("JSON_BYTES"), head_bytes = setting("HEAD_BYTES"),
  small_bytes = setting("SMALL_BYTES"), most_depth = setting("JSON_DEPTH"), most_elements = setting("BODY_BYTES"),
  shared_memory = os.getenv("RULES_SHARED_MEMORY") == "yes",
  has_classes = function(model, output)
    return outputs:lookup(model .. "/" .. output) == "classes"
  end,
  claim = function(tenant, id, ends)
    return sequences:claim(tenant, id, ends)
  end,
}

local function reply(txn, protocol, wrong)
  local kind, sentence = wrong[1], wrong[2]
  local http, grpc = table.unpack(STATUSES[kind])
  txn:set_var("txn.rules_refused", kind)
  if protocol == "grpc" then
    return txn:reply({ status = 200, headers = {
      ["content-type"] = { "application/grpc" }, ["grpc-status"] = { tostring(grpc) }, ["grpc-message"] = { sentence },
    } })
  end
  return txn:reply({
    status = http, headers = { ["content-type"] = { "application/json" } }, body = '{"error": "' .. sentence .. '"}\n',
  })
end

-- {lower-case name: values} of the headers that the rules look at, of all that HAProxy gives, in lower case and counted from 0.
local function headers_of(message)
  local headers = {}
  for _, name in ipairs(requests.headers) do
    local values = message[name]
    if values then
      headers[name] = table.move(values, 0, #values, 1, {})
    end
  end
  return headers
end

-- The filters of requests in progress by the number that `txn.rules_filter` holds: so the action finds its request's.
local filters = setmetatable({}, { __mode = "v" })
local last_number = 0

-- What HAProxy asks for callbacks before it serves, and what it asks then: the filter of one request.
local Filter = { id = "rules", flags = filter.FLT_CFG_FL_HTX }
local Request = {}
Request.__index = Request

-- Once for the request is enough. For each callback that it finds HAProxy makes a dozen objects, so this one is then taken away.
function Filter:start_analyze(txn, channel)
  if not channel:is_resp() then
    self.start_analyze = nil
    last_number = last_number + 1
    filters[last_number] = self
    txn:set_var("txn.rules_filter", last_number)
    filter.register_data_filter(self, channel)
  end
end

function Filter:new()
  return setmetatable({ start_analyze = Filter.start_analyze, held = 0, to_swallow = 0, swallowed = 0 }, Request)
end

-- Reads a gRPC call that is not a stream, if it lies in the buffer as a whole: how many bytes were read, and what is wrong. The
-- filter would see it as well, but after HAProxy took a connection to the server, which then may end with the calls of others.
local function read_at_once(txn, plan, wrong, reader)
  local there, head = txn.f:req_body_len(), txn:get_var("txn.rules_head") or ""
  if plan.protocol ~= "grpc" or plan.streams or #head < 5 or there ~= 5 + string.unpack(">I4", head, 2) then
    return 0
  elseif wrong or not plan.infers then
    return 0, wrong
  end
  wrong = reader:feed(head)
  if wrong or #head == there then
    return there, wrong
  elseif there - #head <= reader:skips() then
    return there, reader:skip(there - #head)
  end
  return there, reader:feed((txn.f:req_body() or ""):sub(#head + 1))
end

core.register_action("rules", { "http-req" }, function(txn)
  local done, plan, wrong =
    pcall(requests.plan, rules, txn.sf:method(), txn.sf:path(), headers_of(txn.http:req_get_headers()))
  local its_filter = filters[txn:get_var("txn.rules_filter") or 0]
  if not done or not its_filter then
    core.Alert("rules.lua: " .. (done and "the frontend has no filter lua.rules" or tostring(plan)))
    plan, wrong = { protocol = "http" }, BROKEN
  end
  txn:set_var("txn.rules_protocol", plan.protocol)
  txn:set_var("txn.rules_streams", plan.streams and 1 or 0)
  plan.tenant = txn:get_var("txn.tenant") or "-"
  local reader, read, at_once = requests.reader(rules, plan), 0, nil
  if its_filter then
    read, at_once = read_at_once(txn, plan, wrong, reader)
  end
  if at_once or (wrong and (plan.protocol == "http" or not its_filter)) then
    txn:done(reply(txn, plan.protocol, at_once or wrong))
  end
  its_filter.protocol, its_filter.wrong, its_filter.reader, its_filter.held = plan.protocol, wrong, reader, read
  if plan.streams then -- else HAProxy 3 keeps answers of an open stream until something else happens to it
    filter.register_data_filter(its_filter, txn.res)
  end
end)

-- Has the reader read or skip some of the bytes behind those that are held. Gives how many, and what is wrong.
-- Only what it looks at is copied into Lua: more of it, and collecting garbage is what most of the time goes into.
function Request:_read(message, there)
  local skipped = math.min(self.reader:skips(), there)
  if skipped > 0 and (message:body(self.held + skipped - 1, 1) or "") ~= "" then
    return skipped, self.reader:skip(skipped)
  end
  local wanted = math.min(there, PIECE_BYTES)
  local piece = (message:body(self.held, wanted) or ""):sub(1, wanted) -- 2.6 gives more where data lie in several blocks
  if #piece < wanted and not (#piece == wanted - END_BYTES and message:eom()) then
    return wanted, { "malformed", "a request has no trailers" }
  end
  return wanted, self.reader:feed(piece)
end

-- Looks at what came since the last call, and at the end of the body if this is it. Gives what is wrong.
function Request:_look(txn, message)
  if not self.reader then
    return { "broken", "the rules were not asked about this request" }
  end
  local there = message:input()
  while there > self.held do
    if self.to_swallow > 0 then
      local swallowed = math.min(self.to_swallow, there - self.held)
      message:remove(self.held, swallowed)
      self.to_swallow, there = self.to_swallow - swallowed, there - swallowed
    else
      local bytes, wrong = self:_read(message, there - self.held)
      if not wrong then
        self.held = self.held + bytes
      elseif not self:_replace(txn, message, self.held + bytes, wrong) then
        return wrong
      end
      there = message:input()
    end
  end
  if message:eom() then
    return self.to_swallow > 0 and { "malformed", "the call ends before its message does" } or self.reader:finish()
  end
end

-- Puts a message that is refused by Triton in the place of a wrong one of a stream, if the server has nothing of it yet.
-- Its answer is an error within the stream, which goes on. HAProxy could only cut the stream off: it sends RST_STREAM
-- behind an answer to a request that has not ended, and clients then take no notice of the answer. One that has ended
-- gets an answer of its own.
function Request:_replace(txn, message, there, wrong)
  local fed, length
  if self.reader.leave and not message:eom() then
    fed, length = self.reader:leave()
  end
  if not fed or fed > there then
    return false
  end
  local at, gone = there - fed, math.min(fed, length)
  local refusal = grpc_messages.refusal(wrong[2])
  if message:remove(at, gone) ~= gone or message:insert(refusal, at) ~= #refusal then
    return false
  end
  txn:set_var("txn.rules_refused", wrong[1])
  self.held, self.to_swallow = at + #refusal, length - gone
  return true
end

-- Throws away what is there; the answer, once the client has sent all or enough of it. HTTP/1 needs no such patience.
function Request:_refuse(txn, message)
  self.swallowed = self.swallowed + message:input()
  message:remove() -- else HAProxy 2.6 would count what `done` throws away as passed on
  if self.protocol == "http" or message:eom() or self.reader.streams or self.swallowed > MOST_SWALLOWED then
    self.is_answered = true
    txn:done(reply(txn, self.protocol, self.wrong))
  end
  return 0
end

-- Gives how many of the bytes that are there may go on to the server.
function Request:http_payload(txn, message)
  if message:is_resp() then
    return message:input()
  elseif self.is_answered then
    return 0
  elseif not self.wrong then
    local looked, wrong = pcall(self._look, self, txn, message)
    if not looked then
      core.Alert("rules.lua: " .. tostring(wrong))
      wrong = BROKEN
    end
    self.wrong = wrong or nil
  end
  if self.wrong then
    return self:_refuse(txn, message)
  end
  local there = message:input()
  if message:eom() or self.reader:is_whole() or there >= HOLD_BYTES then
    self.held = 0
    return there
  end
  return 0
end

Filter.http_payload = Request.http_payload
core.register_filter("rules", Filter, function(instance)
  return instance
end)
