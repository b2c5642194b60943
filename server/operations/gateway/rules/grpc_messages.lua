-- What a gRPC call may carry, read piece by piece as it passes: the frames, and of an inference request the wire
-- format of protobuf as far as names, shapes and parameters go. Contents are skipped by counting. Knows nothing of HAProxy.
--
-- Whatever is not understood is refused: a field that is not Triton's, a wrong wire type, a group, a length that is
-- longer than it need be or than what it lies in, a field that may come once and comes twice.

local tensors = require("tensors")

local PREFIX_BYTES = 5 -- compressed or not, and the length in four bytes, big end first
local LONGEST_LENGTH = 5 -- bytes of a varint that holds less than 2^35
local MOST_FIELDS = 4096 -- of one message, so that a message of empty fields does not take a thread for long
local MOST_DIMENSIONS = 64
local MOST_NAME_BYTES = 256

-- Message by message: first byte of a field -> what to do with it. All of the protocol's fields have numbers below 16,
-- so that any first byte of two or more is not among them. KServe's v2 protocol, `grpc_service.proto` of Triton.
local FIELDS = {
  request = {
    [0x0A] = "name", [0x12] = "skip", [0x1A] = "skip", [0x22] = "of_request", -- model_name, model_version, id, parameters
    [0x2A] = "input", [0x32] = "output", [0x3A] = "skip", -- inputs, outputs, raw_input_contents
  },
  input = { [0x0A] = "skip", [0x12] = "skip", [0x18] = "dimension", [0x1A] = "shape", [0x22] = "parameter", [0x2A] = "skip" },
  output = { [0x0A] = "name", [0x12] = "parameter" },
  parameter = { [0x0A] = "name", [0x12] = "skip" },
  of_request = { [0x0A] = "name", [0x12] = "value" },
}
local MESSAGES = { input = true, output = true, parameter = true, of_request = true }
local INTEGERS, STRING = { [0x10] = true, [0x28] = true }, 0x1A -- of InferParameter: int64_param and uint64_param; string_param
local YES = "\8\1" -- bool_param: true

local Messages = {}
Messages.__index = Messages

-- rules: see `rules.lua`; infers: whether the messages are inference requests, and not any others, which are only
-- counted; streams: whether there may be more than one of them; most_bytes: of one message; tenant: who asks.
local function new(rules, infers, streams, most_bytes, tenant)
  return setmetatable({
    rules = rules, tenant = tenant, infers = infers, streams = streams, most_bytes = most_bytes,
    left_over = "", -- the beginning of something that was not yet there as a whole
    to_skip = 0,
    open = {}, -- the messages that we are in: {kind, left, ...}, the innermost last
    is_inside = false, -- of an inference request, or it was wrong
    messages = 0, -- that are complete
    there = 0, -- bytes of the message that we are in, its prefix included, and of what was fed behind it
    length = 0, -- of that message
  }, Messages)
end

-- A varint of at most `most` bytes at `at`: value and the place behind it; nil if it is not all there; false if wrong.
local function varint(piece, at, most)
  local value, shift = 0, 0
  for index = at, at + most - 1 do
    local byte = piece:byte(index)
    if not byte then
      return nil
    end
    value = value | ((byte & 0x7F) << shift)
    if byte < 0x80 then
      if byte == 0 and index > at then
        return false -- longer than it need be
      end
      return value, index + 1
    end
    shift = shift + 7
  end
  return false
end

local MALFORMED = { "malformed", "the message is not one of Triton's protocol as its clients write it" }

-- A correlation id as digits or as its text; "" for 0, which is none; nil if it is neither a number nor a string.
local function id_of(value)
  local tag, number, behind = value:byte(1), varint(value, 2, 10)
  if INTEGERS[tag] and number and behind == #value + 1 then
    return number == 0 and "" or ("%u"):format(number)
  elseif tag == STRING and number and #value - behind + 1 == number then
    return value:sub(behind)
  end
end

-- A parameter of the whole request.
function Messages:_of_request(name, value)
  if name == "sequence_id" then
    local id = not self.sequence_id and value and id_of(value)
    if not id or id:find("%c") then
      return { "malformed", "sequence_id is one number, or one string without control characters" }
    end
    self.sequence_id = id
  elseif name == "sequence_end" then
    self.sequence_ends = value == YES
  end
end

function Messages:_close()
  local message = table.remove(self.open)
  if message.kind == "parameter" then
    return self.tensors:parameter(message.name or "", self.open[#self.open])
  elseif message.kind == "of_request" then
    return self:_of_request(message.name or "", message.value or nil)
  elseif message.kind == "input" then
    return self.tensors:shape(message.elements)
  elseif message.kind == "output" then
    return self.tensors:classes(message, self.open[1].name)
  elseif message.kind == "request" then
    self.messages = self.messages + 1
    local wrong = self.tensors:finish(message.name or "")
    if not wrong and (self.sequence_id or "") ~= "" then
      wrong = self.rules.claim(self.tenant, self.sequence_id, self.sequence_ends)
    end
    self.is_inside = wrong ~= nil
    return wrong
  end
end

function Messages:_dimension(value)
  local message = self.open[#self.open]
  message.dimensions = (message.dimensions or 0) + 1
  if message.dimensions > MOST_DIMENSIONS then
    return { "malformed", "a shape has more than 64 dimensions" }
  end
  message.elements = tensors.times(message.elements or 1, value)
end

function Messages:_shape(bytes)
  local at = 1
  while at <= #bytes do
    local value, behind = varint(bytes, at, 10)
    if not value then
      return MALFORMED
    end
    local wrong = self:_dimension(value)
    if wrong then
      return wrong
    end
    at = behind
  end
end

-- The field at `at` of the innermost message: the place behind what was read of it; nil if more is needed; false and what is wrong.
function Messages:_field(piece, at)
  local message = self.open[#self.open]
  local what = FIELDS[message.kind][piece:byte(at)]
  if not what then
    return false, MALFORMED
  end
  local length, behind = varint(piece, at + 1, what == "dimension" and 10 or LONGEST_LENGTH)
  if length == nil then
    if #piece - at + 1 >= message.left then
      return false, MALFORMED -- what is left of the message does not hold it
    end
    return nil
  end
  if length == false then
    return false, MALFORMED
  end
  local size = behind - at + (what == "dimension" and 0 or length)
  if size > message.left then
    return false, MALFORMED
  end
  local wrong
  if what == "dimension" then
    wrong = self:_dimension(length)
  elseif what == "skip" then
    self.to_skip = length
  elseif what == "value" and length > MOST_NAME_BYTES then
    wrong, message.value, self.to_skip = message.value ~= nil and MALFORMED or nil, false, length
  elseif MESSAGES[what] then
    local inner = { kind = what, left = length }
    if what == "output" then
      self.tensors:output(inner)
    end
    self.open[#self.open + 1] = inner
  else
    if length > (what == "shape" and MOST_DIMENSIONS * 10 or MOST_NAME_BYTES) then
      return false, { "malformed", "a name has more than 256 bytes, or a shape more than 64 dimensions" }
    end
    if #piece < behind + length - 1 then
      return nil
    end
    local bytes = piece:sub(behind, behind + length - 1)
    behind = behind + length
    if what == "shape" then
      wrong = self:_shape(bytes)
    elseif message[what] ~= nil or (what == "name" and bytes:find("%c")) then
      wrong = MALFORMED -- Triton reads a name up to its first NUL, where another one begins
    else
      message[what] = bytes
    end
  end
  message.left = message.left - size
  self.fields = self.fields + 1
  if self.fields > MOST_FIELDS then
    wrong = { "malformed", "the message has more than 4096 fields" }
  end
  if wrong then
    return false, wrong
  end
  return behind
end

function Messages:_begin(piece, at)
  local compressed, length = string.unpack(">BI4", piece, at)
  if compressed ~= 0 then
    return { "compressed", "compressed messages are not taken: send them without compression" }
  elseif length > self.most_bytes then
    return { "size", "the message is larger than the " .. self.most_bytes .. " bytes that are taken" }
  elseif self.messages > 0 and not self.streams then
    return { "malformed", "this call takes one message" }
  end
  self.there, self.length = #piece - at + 1, PREFIX_BYTES + length
  if self.infers then
    self.tensors, self.fields, self.is_inside = tensors.new(self.rules), 0, true
    self.sequence_id, self.sequence_ends = nil, false
    self.open[1] = { kind = "request", left = length }
  else
    self.to_skip, self.messages = length, self.messages + 1
  end
end

-- Looks at the next piece. Nothing, or what is wrong: {its kind, a sentence}.
function Messages:feed(piece)
  self.there = self.there + #piece
  if self.left_over ~= "" then
    piece, self.left_over = self.left_over .. piece, ""
  end
  local at, wrong = 1, nil
  while true do
    if self.to_skip > 0 then
      local there = math.min(self.to_skip, #piece - at + 1)
      self.to_skip, at = self.to_skip - there, at + there
      if self.to_skip > 0 then
        return nil
      end
    end
    local message = self.open[#self.open]
    if message and message.left == 0 then
      wrong = self:_close()
    elseif at > #piece then
      return nil
    elseif message then
      local behind
      behind, wrong = self:_field(piece, at)
      if behind == nil then
        self.left_over = piece:sub(at)
        return nil
      end
      at = behind
    elseif #piece - at + 1 < PREFIX_BYTES then
      self.left_over = piece:sub(at)
      return nil
    else
      wrong = self:_begin(piece, at)
      at = at + PREFIX_BYTES
    end
    if wrong then
      return wrong
    end
  end
end

-- How many of the bytes that come next need not be looked at, and that some of them have come.
function Messages:skips()
  return self.to_skip
end

function Messages:skip(bytes)
  self.to_skip, self.there = self.to_skip - bytes, self.there + bytes
  return self:feed("")
end

-- After something was wrong with a message of a stream: how many bytes were fed since it began, and its length. What is
-- fed next is to be the message behind it. Nothing where not the message is wrong, but how it is framed.
function Messages:leave()
  local there, length = self.there, self.length
  if not self.streams or not self.is_inside then
    return nil
  end
  self.open, self.left_over, self.to_skip, self.is_inside = {}, "", 0, false
  return there, length
end

-- Whether all that was fed are whole messages, so that the server can answer them.
function Messages:is_whole()
  return self.to_skip == 0 and self.left_over == "" and #self.open == 0
end

-- Nothing, or what is wrong with the end of the call here.
function Messages:finish()
  if not self:is_whole() or (self.messages == 0 and not self.streams) then
    return { "malformed", "the call ends before its message does" }
  end
end

-- A message that Triton answers with an error that has this sentence in it: it asks for a model of that name.
local function refusal(sentence)
  local name = ("(refused by the gateway) " .. sentence):sub(1, 127)
  return string.pack(">BI4", 0, #name + 2) .. "\x0A" .. string.char(#name) .. name
end

return { new = new, refusal = refusal }
