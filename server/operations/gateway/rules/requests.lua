-- What a request's first line and headers may be, and who looks at its body. Knows nothing of HAProxy.
--
-- `plan` sorts a request; `reader` gives what its body is fed to. What is wrong is always {its kind, a sentence}.

local grpc_messages = require("grpc_messages")
local json_text = require("json_text")

local GRPC_SERVICES = { ["inference.GRPCInferenceService"] = true, ["grpc.health.v1.Health"] = true }
local GRPC_TYPES = { ["application/grpc"] = true, ["application/grpc+proto"] = true }
local BODY_TYPES = { ["application/json"] = true, ["application/octet-stream"] = true }
local BODILESS = { GET = true, HEAD = true, OPTIONS = true }
local MOST_PATH_BYTES = 1024
local HEAD_LENGTH = "inference-header-content-length"

-- A header's only value; "" if it is not there; nil and what is wrong if it comes more than once.
local function only(headers, name)
  local values = headers[name]
  if not values or #values == 0 then
    return ""
  elseif #values > 1 or values[1]:find(",", 1, true) then
    return nil, { "malformed", "the header " .. name .. " comes twice" }
  end
  return values[1]:match("^%s*(.-)%s*$")
end

local function media_type(headers)
  local value, wrong = only(headers, "content-type")
  return value and value:lower():match("^[^;%s]*"), wrong
end

-- Of a length in a header: a whole number; nil if it is not there; false if it is none.
local function length_of(value)
  if value == "" then
    return nil
  end
  return value and value:find("^%d%d?%d?%d?%d?%d?%d?%d?%d?%d?$") and math.tointeger(tonumber(value)) or false
end

local TOO_LARGE = "the request is larger than the %d bytes that are taken here"

local function plan_of_grpc(rules, method, service, call, headers)
  local plan = { protocol = "grpc", infers = false, streams = false, most_bytes = rules.small_bytes }
  if not GRPC_SERVICES[service] or not call:find("^%a+$") then
    return plan, { "path", "there is no such call" }
  elseif call == "ModelInfer" or call == "ModelStreamInfer" then
    plan.infers, plan.streams, plan.most_bytes = true, call == "ModelStreamInfer", rules.body_bytes
  end
  local media, wrong = media_type(headers)
  if method ~= "POST" or wrong or not GRPC_TYPES[media] then
    return plan, wrong or { "type", "a gRPC call is a POST of application/grpc" }
  end
  local encoding, repeated = only(headers, "grpc-encoding")
  if repeated or (encoding ~= "" and encoding ~= "identity") then
    return plan, { "compressed", "compressed messages are not taken: send them without compression" }
  end
  local length, twice = only(headers, "content-length")
  length = length_of(length)
  if twice or length == false then
    return plan, twice or { "malformed", "content-length is no number" }
  elseif length and length > plan.most_bytes + 5 and not plan.streams then
    return plan, { "size", TOO_LARGE:format(plan.most_bytes) }
  end
  return plan
end

-- Of the body of a POST: what it may be, and what is wrong.
local function plan_of_post(rules, path, headers)
  local plan = { protocol = "http", most_bytes = rules.small_bytes }
  local model, call = path:match("^/v2/models/([^/]+)/([%l_]+)$")
  if not model then
    model, call = path:match("^/v2/models/([^/]+)/versions/%d+/([%l_]+)$")
  end
  if call == "infer" then
    plan.model, plan.most_bytes = model, rules.body_bytes
  elseif call == "generate" or call == "generate_stream" then
    plan.most_bytes = rules.json_bytes
  end
  local media, wrong = media_type(headers)
  if wrong or (media ~= "" and not BODY_TYPES[media]) then
    return plan, wrong or { "type", "send application/json or application/octet-stream" }
  end
  local text, twice = only(headers, "content-length")
  local length = length_of(text)
  if twice or length == false then
    return plan, twice or { "malformed", "content-length is no number" }
  elseif length == nil or headers["transfer-encoding"] then
    return plan, { "length", "say the length of the body in content-length: bodies in chunks are not taken" }
  elseif length > plan.most_bytes then
    return plan, { "size", TOO_LARGE:format(plan.most_bytes) }
  end
  plan.length, plan.json_bytes = length, length
  text, twice = only(headers, HEAD_LENGTH)
  local head = length_of(text)
  if twice or head == false then
    return plan, twice or { "malformed", HEAD_LENGTH .. " is no number" }
  elseif head and not plan.model then
    return plan, { "malformed", HEAD_LENGTH .. " belongs to an inference request" }
  elseif head and head > length then
    return plan, { "malformed", HEAD_LENGTH .. " is more than content-length" }
  end
  plan.json_bytes, plan.is_binary = head or length, head ~= nil
  local most = plan.is_binary and rules.head_bytes or rules.json_bytes
  if plan.json_bytes > most then
    return plan, { "size", "the JSON of the request is larger than the " .. most .. " bytes that are taken: send tensors as binary data" }
  end
  return plan
end

-- method, path (without a query) and headers ({lower-case name: values}) -> a plan, and what is wrong if anything.
local function plan(rules, method, path, headers)
  local encoding, twice = only(headers, "content-encoding")
  local service, call = path:match("^/([%w_.]+)/([^/]*)$")
  if GRPC_SERVICES[service or ""] or headers["content-type"] and headers["content-type"][1]:lower():find("^application/grpc") then
    return plan_of_grpc(rules, method, service or "", call or "", headers)
  end
  local answer = { protocol = "http", most_bytes = 0 }
  if #path > MOST_PATH_BYTES or not path:find("^/[%w_.~/-]*$") or path:find("//", 1, true) or (path .. "/"):find("/%.%.?/") then
    return answer, { "path", "a path has letters, digits and _ . - ~ alone" }
  elseif twice or (encoding ~= "" and encoding ~= "identity") then
    return answer, twice or { "compressed", "compressed bodies are not taken: send them without content-encoding" }
  elseif method == "POST" then
    return plan_of_post(rules, path, headers)
  elseif not BODILESS[method] then
    return answer, { "method", "the methods that are taken are GET, HEAD, OPTIONS and POST" }
  elseif headers["transfer-encoding"] or (headers["content-length"] and headers["content-length"][1] ~= "0") then
    return answer, { "malformed", "a body belongs to a POST" }
  end
  answer.length = 0
  return answer
end

-- What was found in JSON that is like another but for the sizes of its binary data: most requests of a client are. Kept
-- are texts that are in order; what their outputs may is looked up each time, as the table may change.
local MOST_KEPT = 256
local LONGEST_KEPT = 2048
local SIZES = '("binary_data_size": ?)(%d+)'
local kept, kept_count = {}, 0

-- The reader of the whole text of an inference request's JSON, and what is wrong with it.
local function read_whole(rules, model, text)
  local likeness, sizes = text:gsub(SIZES, "%10")
  likeness = model .. " " .. likeness
  local known = kept[likeness]
  if known then
    known.binary_bytes = 0
    for _, size in text:gmatch(SIZES) do
      known.binary_bytes = known.binary_bytes + (#size <= 10 and tonumber(size) or 2 ^ 53)
    end
    return known, known.tensors:finish(model)
  end
  local reader = json_text.new(rules, model)
  local wrong = reader:feed(text) or reader:finish()
  if not wrong and reader.binary_sizes == sizes and #text <= LONGEST_KEPT then
    if kept_count == MOST_KEPT then
      kept, kept_count = {}, 0
    end
    kept[likeness], kept_count = reader, kept_count + 1
  end
  return reader, wrong
end

-- The body of a request over HTTP: JSON, and behind it bytes that are counted.
local Body = {}
Body.__index = Body

function Body:feed(piece)
  self.passed = self.passed + #piece
  if self.passed > self.plan.length then
    return { "malformed", "the body is longer than content-length says" }
  end
  local json = math.min(#piece, self.json_left)
  if json == 0 then
    return nil
  end
  local text, wrong = piece:sub(1, json), nil
  self.json_left = self.json_left - json
  if json == self.plan.json_bytes and self.plan.model then
    self.text, wrong = read_whole(self.rules, self.plan.model, text)
  else
    self.text = self.text or json_text.new(self.rules, self.plan.model)
    wrong = self.text:feed(text) or self.json_left == 0 and self.text:finish() or nil
  end
  if not wrong and self.json_left == 0 and (self.text.sequence_id or "") ~= "" then
    wrong = self.rules.claim(self.plan.tenant, self.text.sequence_id, self.text.sequence_ends)
  end
  if not wrong and self.json_left == 0 and self.plan.is_binary then
    if self.text.binary_bytes ~= self.plan.length - self.plan.json_bytes then
      wrong = { "malformed", "the inputs' binary_data_size are not together the bytes behind the JSON" }
    end
  end
  return wrong
end

function Body:skips()
  return self.json_left == 0 and self.plan.length - self.passed or 0
end

function Body:skip(bytes)
  self.passed = self.passed + bytes
end

function Body:is_whole()
  return self.passed == self.plan.length
end

function Body:finish()
  if not self:is_whole() then
    return { "malformed", "the body is shorter than content-length says" }
  end
end

-- What is fed the body of a request: `feed(piece)`, `skips()` and `skip(bytes)` for what is only counted, `is_whole()`,
-- `finish()`.
local function reader(rules, plan_of_it)
  if plan_of_it.protocol == "grpc" then
    return grpc_messages.new(rules, plan_of_it.infers, plan_of_it.streams, plan_of_it.most_bytes, plan_of_it.tenant)
  end
  return setmetatable({
    rules = rules, plan = plan_of_it, passed = 0, json_left = plan_of_it.json_bytes or 0,
  }, Body)
end

-- All that `plan` looks at.
local HEADERS = {
  "content-type", "content-encoding", "content-length", "transfer-encoding", "grpc-encoding", HEAD_LENGTH,
}

return { plan = plan, reader = reader, headers = HEADERS }
