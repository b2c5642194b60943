-- Whose a sequence is. Triton tells sequences apart by their correlation ids alone, so of each id one tenant makes use at a time:
-- the first, until the sequence has ended, or for an hour after its last request. Ids are one space for all models, as a
-- pipeline hands its own on to the models that it calls. Knows nothing of HAProxy.
--
-- The map that threads share knows no compare-and-set. Where two tenants take the same free id within the same microseconds, in
-- two threads, both may see that it is theirs, and one request of each is let in; the later one has it from then on. An id that is
-- taken anew just as its last sequence is forgotten may be anybody's until its next request.

local LIVES_S = 3600 -- after its last request, as long as HAProxy knows the server of a sequence
local ENDED_S = 5 -- after its end, in which requests that were sent at the same time arrive
local LATE_S = 60 -- by which an entry may be older than the last request
local MOST = 1000 -- of a tenant, in each thread: HAProxy 2.6 walks through all that there are to change one
local MOST_REMOVED = 100 -- at a time
local MOST_FORGOTTEN = 2 -- at a time: more than can end

local FOREIGN = { "owned", "another tenant has a sequence with this correlation id: take one that nobody else does, as a UUID" }
local TOO_MANY = { "many", "the tenant has too many sequences at a time: end some of them" }

local Owners = {}
Owners.__index = Owners

-- store: get(id), set(id, text), remove(id), which all threads share; now(): seconds.
local function new(store)
  return setmetatable({ store = store, claimed = {}, counts = {}, ended = {}, first = 1, last = 0 }, Owners)
end

-- The tenant that has this id, and until when; nil if nobody has.
function Owners:_owner(id, now)
  local tenant, until_s = (self.store.get(id) or ""):match("^(%S+) (%d+)$")
  until_s = tonumber(until_s)
  if until_s and until_s > now then
    return tenant, until_s
  end
end

function Owners:_release(id)
  local tenant = self.claimed[id]
  if tenant then
    self.claimed[id] = nil
    self.counts[tenant] = self.counts[tenant] - 1
  end
end

-- Forgets sequences that ended here some seconds ago.
function Owners:_forget_ended(now)
  for _ = 1, MOST_FORGOTTEN do
    local ended = self.ended[self.first]
    if not ended or ended.until_s > now then
      return
    end
    self.ended[self.first] = nil
    self.first = self.first + 1
    if not self:_owner(ended.id, now) then
      self:_release(ended.id)
      self.store.remove(ended.id)
    end
  end
end

-- Forgets what this thread claimed and nobody uses any more. That looks at all of it, so once a second is enough.
function Owners:_sweep(now)
  if self.swept == now then
    return
  end
  local removed = 0
  for id, tenant in pairs(self.claimed) do
    local owner = self:_owner(id, now)
    if owner ~= tenant then
      self:_release(id)
    end
    if not owner then
      self.store.remove(id)
      removed = removed + 1
      if removed == MOST_REMOVED then
        return
      end
    end
  end
  self.swept = now
end

-- A request of this tenant for the sequence `id`; ends: whether it is the last one. Nothing, or what is wrong.
function Owners:claim(tenant, id, ends)
  local now = self.store.now()
  self:_forget_ended(now)
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
    self:_release(id)
    self.claimed[id], self.counts[tenant] = tenant, (self.counts[tenant] or 0) + 1
  end
  self.store.set(id, tenant .. " " .. math.tointeger(wanted))
  if ends then
    self.last = self.last + 1
    self.ended[self.last] = { id = id, until_s = wanted }
  end
  if self:_owner(id, now) ~= tenant then -- another thread was faster
    return FOREIGN
  end
end

return { new = new }
