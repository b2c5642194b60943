-- Whose a sequence is. Triton tells sequences apart by their correlation ids alone, so of each id one tenant makes use at a time:
-- the first, until the sequence has ended, or for an hour after its last request. Ids are one space for all models, as a
-- pipeline hands its own on to the models that it calls. Knows nothing of HAProxy.

local LIVES_S = 3600 -- after its last request, as long as HAProxy knows the server of a sequence
local ENDED_S = 5 -- after its end, in which requests that were sent at the same time arrive
local LATE_S = 60 -- by which an entry may be older than the last request
local MOST = 2000 -- of a tenant, in each thread
local MOST_REMOVED = 100 -- at a time

local FOREIGN = { "owned", "another tenant has a sequence with this correlation id: take one that nobody else does, as a UUID" }
local TOO_MANY = { "many", "the tenant has too many sequences at a time: end some of them" }

local Owners = {}
Owners.__index = Owners

-- store: get(id), set(id, text), remove(id), which all threads share; now(): seconds.
local function new(store)
  return setmetatable({ store = store, claimed = {}, counts = {} }, Owners)
end

-- The tenant that has this id, and until when; nil if nobody has.
function Owners:_owner(id, now)
  local tenant, until_s = (self.store.get(id) or ""):match("^(%S+) (%d+)$")
  until_s = tonumber(until_s)
  if until_s and until_s > now then
    return tenant, until_s
  end
end

-- Forgets what this thread claimed and nobody uses any more.
function Owners:_sweep(now)
  local removed = 0
  for id, tenant in pairs(self.claimed) do
    local owner = self:_owner(id, now)
    if owner ~= tenant then
      self.claimed[id] = nil
      self.counts[tenant] = self.counts[tenant] - 1
    end
    if not owner then
      self.store.remove(id)
      removed = removed + 1
      if removed == MOST_REMOVED then
        return
      end
    end
  end
end

-- A request of this tenant for the sequence `id`; ends: whether it is the last one. Nothing, or what is wrong.
function Owners:claim(tenant, id, ends)
  local now = self.store.now()
  local owner, until_s = self:_owner(id, now)
  local wanted = now + (ends and ENDED_S or LIVES_S)
  if owner and owner ~= tenant then
    return FOREIGN
  elseif owner and not ends and wanted - until_s < LATE_S then
    return nil
  elseif self.claimed[id] ~= tenant then
    if (self.counts[tenant] or 0) >= MOST then
      self:_sweep(now)
      if self.counts[tenant] >= MOST then
        return TOO_MANY
      end
    end
    local before = self.claimed[id]
    if before then
      self.counts[before] = self.counts[before] - 1
    end
    self.claimed[id], self.counts[tenant] = tenant, (self.counts[tenant] or 0) + 1
  end
  self.store.set(id, tenant .. " " .. math.tointeger(wanted))
  if self:_owner(id, now) ~= tenant then -- another thread was faster
    return FOREIGN
  end
end

return { new = new }
