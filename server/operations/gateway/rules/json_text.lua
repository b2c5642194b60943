-- What the JSON of a request may be, read piece by piece as it passes: how deep, and of an inference request the names,
-- shapes and parameters of tensors. Data are passed over. Knows nothing of HAProxy.
--
-- Not a parser: what it lets through may still be wrong, and Triton says so. But where the text is JSON it sees the
-- same structure as Triton does, and what could be read in two ways is refused: names with escapes or that come twice.

local tensors = require("tensors")

local MOST_NAME_BYTES = 256
local MOST_NAMES = 4096 -- of an inference request: tensors, their fields, parameters
local MOST_DIMENSIONS = 64
local MALFORMED = { "malformed", "the JSON is broken" }

local NO_SPACE_NOR_COMMA = "[^ \t\r\n,]"
local SCALAR = "^[%w+.-]+()"
local SCALARS = "^[%w+. \t\r\n,-]+()" -- in an array, where nothing looks at them
local WHOLE_NAME = '^"([^"\\%c]*)"[ \t\r\n]*:()'
local WHOLE_STRING = '^"[^"\\%c]*"'
local END_OF_STRING = '["\\\0-\31]'

local Text = {}
Text.__index = Text

-- rules: see `rules.lua`; model: whose inference request it is, nil for any other JSON.
local function new(rules, model)
  return setmetatable({
    rules = rules, model = model,
    tensors = model and tensors.new(rules),
    binary_bytes = 0, -- that the inputs say follow behind the JSON
    binary_sizes = 0, -- how many of them say so
    sequence_id = nil, -- of the request; "" for none
    sequence_ends = false,
    tensor = nil, -- the input or output that we are in
    depth = 0, -- of containers that are open
    kinds = {}, -- "{" or "[" of each
    keys = {}, -- the name in each object whose value is read; false where a name is awaited
    seen = {}, -- names of each object
    names = 0,
    began = false,
    text = nil, -- of the string or scalar that is read, as far as it is kept
  }, Text)
end

-- What lies where we are in an inference request: a word for the places that matter.
function Text:_place()
  local tensor = self.tensor
  if not tensor then
    local name = self.depth == 2 and self.model and self.keys[1] == "parameters" and self.kinds[2] == "{" and self.keys[2]
    return (name == "sequence_id" or name == "sequence_end") and "sequence" or nil
  end
  local depth, field = self.depth, self.keys[3]
  if depth == 3 then
    return field == "name" and tensor.kind == "output" and "name" or "field"
  elseif depth == 4 and field == "parameters" and self.kinds[4] == "{" then
    return "parameter"
  elseif field == "shape" and tensor.kind == "input" then
    return depth == 4 and "shape" or "wrong"
  end
end

function Text:_open(kind)
  local parent = self.keys[self.depth]
  if self.depth == 0 and self.began then
    return MALFORMED
  elseif self.kinds[self.depth] == "{" and not parent then
    return MALFORMED
  end
  local place = self:_place()
  if place == "name" or place == "shape" or place == "wrong" or place == "sequence" then
    return MALFORMED
  end
  self.began = true
  self.depth = self.depth + 1
  if self.depth > self.rules.most_depth then
    return { "malformed", "the JSON is nested deeper than the " .. self.rules.most_depth .. " levels that are taken" }
  end
  self.kinds[self.depth], self.keys[self.depth] = kind, false
  self.seen[self.depth] = self.model and kind == "{" and self.depth <= 4 and {} or nil
  local section = self.depth == 3 and kind == "{" and self.kinds[2] == "[" and self.model and self.keys[1]
  if section == "inputs" then
    self.tensor = { kind = "input" }
  elseif section == "outputs" then
    self.tensor = { kind = "output" }
    self.tensors:output(self.tensor)
  end
end

function Text:_shut(kind)
  if self.kinds[self.depth] ~= kind or self.keys[self.depth] then
    return MALFORMED
  end
  local was_tensor = self.depth == 3 and self.tensor
  self.kinds[self.depth], self.keys[self.depth], self.seen[self.depth] = nil, nil, nil
  self.depth = self.depth - 1
  self:_value_ends()
  if was_tensor then
    self.tensor = nil
    if was_tensor.kind == "input" then
      return self.tensors:shape(was_tensor.elements)
    end
    return self.tensors:classes(was_tensor, self.model)
  end
end

-- The object that we are in, if any, awaits a name again.
function Text:_value_ends()
  if self.kinds[self.depth] == "{" then
    self.keys[self.depth] = false
  end
end

function Text:_name(name)
  self.keys[self.depth] = name
  if not self.model then
    return nil
  end
  self.names = self.names + 1
  local seen = self.seen[self.depth]
  if seen then
    if seen[name] then
      return { "malformed", "a name comes twice in one object of the JSON" }
    elseif self.names > MOST_NAMES then
      return { "malformed", "the JSON has more than " .. MOST_NAMES .. " names" }
    end
    seen[name] = true
  end
  if self:_place() == "parameter" then
    return self.tensors:parameter(name, self.tensor)
  elseif name == "classification" or name:sub(1, 13) == "shared_memory" then
    return { "malformed", name .. " is a parameter of a tensor" }
  end
end

-- A string or scalar of which all was kept that is needed.
function Text:_scalar(text, is_string)
  local place = self:_place()
  if place == "shape" then
    local tensor = self.tensor
    tensor.dimensions = (tensor.dimensions or 0) + 1
    if is_string or tensor.dimensions > MOST_DIMENSIONS or not text:find("^%d+$") then
      return { "malformed", "a shape is a list of at most 64 whole numbers" }
    end
    tensor.elements = tensors.times(tensor.elements or 1, tonumber(text))
  elseif place == "wrong" then
    return MALFORMED
  elseif place == "sequence" then
    if self.keys[2] == "sequence_end" then
      self.sequence_ends = not is_string and text == "true"
    elseif not is_string and not text:find("^%d+$") then
      return { "malformed", "sequence_id is a whole number, or a string" }
    else
      self.sequence_id = (is_string or text ~= "0") and text or ""
    end
  elseif place == "name" then
    if not is_string then
      return MALFORMED
    end
    self.tensor.name = text
  elseif place == "parameter" and self.keys[4] == "binary_data_size" and self.tensor.kind == "input" then
    if is_string or not text:find("^%d+$") or #text > 10 then
      return { "malformed", "binary_data_size is a whole number" }
    end
    self.binary_bytes, self.binary_sizes = self.binary_bytes + tonumber(text), self.binary_sizes + 1
  end
end

-- Whether the string or scalar that begins here is looked at.
function Text:_is_kept()
  if self.kinds[self.depth] == "{" and not self.keys[self.depth] then
    return true
  end
  local place = self:_place()
  return place ~= nil and place ~= "field"
end

function Text:_keep(piece, first, last)
  if self.kept then
    self.text = self.text .. piece:sub(first, last)
    if #self.text > MOST_NAME_BYTES then
      return { "malformed", "a name in the JSON has more than 256 bytes" }
    end
  end
end

-- Inside of a string: the place behind what was read of it, and what is wrong.
function Text:_in_string(piece, at)
  if self.escaped then
    self.escaped = false
    at = at + 1
  end
  local stop = piece:find(END_OF_STRING, at)
  local wrong = self:_keep(piece, at, (stop or #piece + 1) - 1)
  if wrong or not stop then
    return #piece + 1, wrong
  end
  local byte = piece:byte(stop)
  if byte == 0x5C then -- a backslash
    if self.kept then
      return stop, { "malformed", "a name in the JSON has an escape: write it out" }
    end
    self.escaped = true
    return stop + 1
  elseif byte ~= 0x22 then
    return stop, MALFORMED
  end
  local text = self.text
  self.state, self.text = nil, nil
  if self.kinds[self.depth] == "{" and not self.keys[self.depth] then
    self.state = "colon"
    return stop + 1, self:_name(text)
  end
  wrong = self.kept and self:_scalar(text, true)
  self:_value_ends()
  return stop + 1, wrong or nil
end

-- Inside of a number or word, which ends with the first byte that is not of it.
function Text:_in_scalar(piece, at)
  local behind = piece:match(SCALAR, at) or at
  local wrong = self:_keep(piece, at, behind - 1)
  if wrong or behind > #piece then
    return behind, wrong
  end
  return behind, self:_end_scalar()
end

function Text:_end_scalar()
  local text = self.text
  self.state, self.text = nil, nil
  local wrong = self.kept and self:_scalar(text, false)
  self:_value_ends()
  return wrong or nil
end

function Text:_token(piece, at)
  local byte = piece:byte(at)
  if self.state == "colon" then
    self.state = nil
    return at + 1, byte ~= 0x3A and MALFORMED or nil
  elseif byte == 0x7B or byte == 0x5B then
    return at + 1, self:_open(string.char(byte))
  elseif byte == 0x7D or byte == 0x5D then
    return at + 1, self:_shut(byte == 0x7D and "{" or "[")
  elseif self.depth == 0 then
    return at, { "malformed", "the JSON is not one object" }
  end
  local is_name = self.kinds[self.depth] == "{" and not self.keys[self.depth]
  if is_name and byte == 0x22 then
    local name, behind = piece:match(WHOLE_NAME, at)
    if name and #name <= MOST_NAME_BYTES then -- most of them come whole
      return behind, self:_name(name)
    end
  end
  self.kept = self:_is_kept()
  if byte == 0x22 then
    local _, last = piece:find(WHOLE_STRING, at)
    if last and not is_name and last - at <= MOST_NAME_BYTES then
      local wrong = self.kept and self:_scalar(piece:sub(at + 1, last - 1), true)
      self:_value_ends()
      return last + 1, wrong or nil
    end
    self.state, self.text = "string", ""
    return at + 1
  elseif is_name or not piece:find(SCALAR, at) then
    return at, MALFORMED
  elseif not self.kept and self.kinds[self.depth] == "[" then
    return piece:match(SCALARS, at)
  end
  self.state, self.text = "scalar", ""
  return at
end

-- Looks at the next piece. Nothing, or what is wrong: {its kind, a sentence}.
function Text:feed(piece)
  local at, wrong = 1, nil
  while at <= #piece do
    if self.state == "string" then
      at, wrong = self:_in_string(piece, at)
    elseif self.state == "scalar" then
      at, wrong = self:_in_scalar(piece, at)
    else
      at = piece:find(NO_SPACE_NOR_COMMA, at)
      if not at then
        return nil
      end
      at, wrong = self:_token(piece, at)
    end
    if wrong then
      return wrong
    end
  end
end

-- Nothing, or what is wrong with the end of the text here.
function Text:finish()
  if self.depth > 0 or not self.began or self.state then
    return { "malformed", "the JSON is not complete" }
  end
  return self.tensors and self.tensors:finish(self.model)
end

return { new = new }
