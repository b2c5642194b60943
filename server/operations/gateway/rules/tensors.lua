-- What an inference request says of its tensors, whether it came as JSON or as protobuf: no shape beyond what a
-- request can hold, no shared memory, no classes asked of an output that ends Triton 2.51 if one asks. Knows nothing of HAProxy.

local Tensors = {}
Tensors.__index = Tensors

local TOO_MANY = 2 ^ 53
local LARGEST_DIMENSION = 2 ^ 31
local SHARED_MEMORY = "shared_memory"
local CLASSES = "classification"

-- rules: most_elements of one tensor; shared_memory: whether it is allowed; has_classes(model, output): whether
-- classes can be asked of that output.
local function new(rules)
  return setmetatable({ rules = rules, outputs = {}, is_empty = false }, Tensors)
end

-- The product of `elements` and one dimension more; TOO_MANY, and no less ever after, if the dimension is no number,
-- negative, or larger than any that is meant.
local function times(elements, dimension)
  if not dimension or dimension < 0 or dimension > LARGEST_DIMENSION or elements >= TOO_MANY then
    return TOO_MANY
  end
  return math.min(elements * 1.0 * dimension, TOO_MANY)
end

-- An input's number of elements; nil for a shape of no dimensions.
function Tensors:shape(elements)
  if elements == 0 then
    self.is_empty = true
  elseif elements and elements > self.rules.most_elements then
    return { "size", "a shape has more elements than a request can hold, or a negative dimension" }
  end
end

-- An output, a table whose `name` is known at the end at the latest.
function Tensors:output(output)
  self.outputs[#self.outputs + 1] = output
end

-- A parameter called `name` of a tensor: a table whose `kind` is "input" or "output".
function Tensors:parameter(name, tensor)
  if name:sub(1, #SHARED_MEMORY) == SHARED_MEMORY and not self.rules.shared_memory then
    return { "forbidden", "shared memory is not available through this gateway: send tensors in the request" }
  elseif name == CLASSES then
    if tensor.kind ~= "output" then
      return { "malformed", "classification is a parameter of an output" }
    end
    tensor.classified = true
  end
end

-- Whether classes can be asked of that output, as far as it is asked for them, of that model; nil where that is not known yet.
function Tensors:classes(output, model)
  if model and output.classified and (self.is_empty or not self.rules.has_classes(model, output.name or "")) then
    return {
      "forbidden", "classes cannot be asked of this output (not numeric, or of no fixed size): ask for the whole output",
    }
  end
end

-- At the end of the request, when all of it is known; "" for a model without a name.
function Tensors:finish(model)
  for _, output in ipairs(self.outputs) do
    local wrong = self:classes(output, model)
    if wrong then
      return wrong
    end
  end
end

return { new = new, times = times }
