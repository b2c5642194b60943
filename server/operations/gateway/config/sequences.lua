-- Which sequence a request belongs to, so that the gateway can keep its requests with one server.
--
-- Sets txn.sequence to the correlation id, a number or a string, where the body has one. The body is the client's word
-- alone: a wrong one sends the client's own sequence astray and nobody else's, as the tenant is part of the key, and owners.lua
-- has read it as Triton does.

local LONGEST = 128
local KEY = "\10\11sequence_id\18" -- of the entry in the map of parameters: field 1, 11 bytes; field 2
local INTEGER, STRING = 0x10, 0x1a -- fields of InferParameter: int64_param, string_param

local function varint(text, at)
  local value, shift = 0, 0
  while shift < 64 do
    local byte = text:byte(at)
    if not byte then return nil end
    value = value | (byte & 0x7f) << shift
    if byte < 0x80 then return value, at + 1 end
    at, shift = at + 1, shift + 7
  end
end

local function of_grpc(body)
  local _, last = body:find(KEY, 1, true)
  if not last then return nil end
  local _, at = varint(body, last + 1) -- the length of the value
  if not at then return nil end
  local tag = body:byte(at)
  local value, after = varint(body, at + 1)
  if not value then return nil end
  if tag == INTEGER then return string.format("%u", value) end
  if tag == STRING and value <= LONGEST then return body:sub(after, after + value - 1) end
end

local function of_json(body, head)
  local json = head and body:sub(1, head) or body
  return json:match('"sequence_id"%s*:%s*(%d+)') or json:match('"sequence_id"%s*:%s*"([^"\\]*)"')
end

core.register_action("sequence", { "http-req" }, function(txn)
  local body = txn.f:req_body()
  if not body then return end
  local id
  if txn:get_var("txn.kind") == "grpc" then
    id = of_grpc(body)
  else
    id = of_json(body, tonumber(txn.f:req_hdr("inference-header-content-length") or ""))
  end
  if id and id ~= "" and id ~= "0" then txn:set_var("txn.sequence", id:sub(1, LONGEST)) end
end)
