-- Asks the launcher of each server which models it lacks, twice a second, and writes what elsewhere.lua goes by: for a gateway
-- that no launcher tells. See /absent in server/watching/status_page.py, and docs/decisions/0051.
--
--   setenv ABSENT_PORTS "8003 8003"     # of the launchers of s1, s2 and so on
--   setenv ABSENT_MAPS "triton_http FILE triton_grpc FILE"    # of each backend: its slots need not be those of another
--   lua-load FOLDER/absent.lua          # once, not for each thread

local EVERY_MS, TIMEOUT_S = 500, 2
local AUTHORITY = "triton_http" -- whose servers are asked

local ports, files, told = {}, {}, {}
for port in os.getenv("ABSENT_PORTS"):gmatch("%d+") do
  ports[#ports + 1] = port
end
for backend, file in os.getenv("ABSENT_MAPS"):gmatch("(%S+) (%S+)") do
  files[backend], told[backend] = file, {}
end

local absent = {} -- by host:port of a launcher: {model: whether it is being loaded again}

-- host:port of the launcher of the server in a slot, if that server is up.
local function launcher(backend, slot)
  local server = core.backends[backend].servers["s" .. slot]
  if server:get_stats().status:find("^UP") then
    return (server:get_addr():gsub("%d+$", ports[slot]))
  end
end

local function entries_of(backend)
  local up, entries, anybody = {}, {}, {}
  for slot = 1, #ports do
    local address = launcher(backend, slot)
    if address then
      up[#up + 1] = { slot = "s" .. slot, lacks = absent[address] or {} }
    end
  end
  for _, server in ipairs(up) do
    for model, again in pairs(server.lacks) do
      anybody[model] = anybody[model] or again
    end
  end
  anybody["*"] = next(anybody) and false -- for streams: who lacks nothing
  for model, again in pairs(anybody) do
    local having = {}
    for _, server in ipairs(up) do
      local lacks = server.lacks[model]
      if model == "*" then lacks = next(server.lacks) end
      if lacks == nil then having[#having + 1] = server.slot end
    end
    entries[model] = having[1] and table.concat(having, ",") or again and "-" or nil
  end
  return entries
end

local function publish()
  for backend, file in pairs(files) do
    local entries = (next(absent) or next(told[backend])) and entries_of(backend) or {}
    for model, slots in pairs(entries) do
      if told[backend][model] ~= slots then core.set_map(file, model, slots) end
    end
    for model in pairs(told[backend]) do
      if not entries[model] then core.del_map(file, model) end
    end
    told[backend] = entries
  end
end

-- What the launcher at host:port says; false if its server lacks nothing, nil where it does not answer or knows no such page.
local function ask(address)
  local host, port = address:match("^(.*):(%d+)$")
  local socket, answer = core.tcp(), nil
  socket:settimeout(TIMEOUT_S)
  if socket:connect(host, port) and socket:send("GET /absent HTTP/1.0\r\n\r\n") then
    answer = socket:receive("*a")
  end
  socket:close()
  local body = (answer or ""):match("^HTTP/1%.[01] 200 .-\r\n\r\n(.*)$")
  if body then
    local models = {}
    for model, again in body:gmatch("(%S+)([^\n]*)\n") do
      models[model] = again == " again"
    end
    return next(models) and models or false
  end
end

local asked = {} -- by slot: the launcher

-- Servers may change places: what one has learned of an address stands while that is anybody's.
local function is_of_some_slot(address)
  for slot = 1, #ports do
    if launcher(AUTHORITY, slot) == address then return true end
  end
  return false
end

local function look(slot)
  local address, before = launcher(AUTHORITY, slot), asked[slot]
  asked[slot] = address
  if before and before ~= address and not is_of_some_slot(before) then absent[before] = nil end
  local models = address and ask(address)
  if address and models ~= nil then absent[address] = models or nil end
  publish()
end

for slot = 1, #ports do
  core.register_task(function()
    while true do
      local done, wrong = pcall(look, slot)
      if not done then core.Alert("absent.lua: " .. tostring(wrong)) end
      core.msleep(EVERY_MS)
    end
  end)
end
