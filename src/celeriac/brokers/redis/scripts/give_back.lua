-- give_back: end a lease and put what it held back to the front of its queues, in the old order.
--
-- Two transitions share it: `release` (the process is known to be gone, or gives up by itself) and `sweep` (its
-- lease has lapsed; nobody knows which message was running, so each counts one crash).
--
-- KEYS, for each queue, 9 + lists of them as in exchange.lua:
--   1 leases, 2 held, 3 seq, 4 delayed, 5 suspects, 6 quarantine, 7 dead, 8 letters, 9... lists, last rest
-- ARGV: consumer, queues, lists, "release" or "sweep";
--   for each queue: n, then n tags that are done; n, then n tags that were running when the process died.
-- Returns how many messages went back; -1 when a sweep found the lease alive.

local call = redis.call
local consumer, queues, lists, mode = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local width = 9 + lists

if mode == 'sweep' then
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  for base = 0, (queues - 1) * width, width do
    local lapses = call('ZSCORE', KEYS[base + 1], consumer)
    if lapses and tonumber(lapses) > now then
      return -1
    end
  end
end

local function counted(stored)
  local crashes, rest = string.match(stored, '^{"celeriac%-crashes":(%d+),(.*)$')
  if crashes then
    return '{"celeriac-crashes":' .. (tonumber(crashes) + 1) .. ',' .. rest
  elseif string.sub(stored, 1, 1) == '{' then
    return '{"celeriac-crashes":1,' .. string.sub(stored, 2)
  end
  return '{"celeriac-crashes":1,\0' .. stored
end

local p = 5
local function next_tags()
  local tags, count = {}, tonumber(ARGV[p])
  for i = p + 1, p + count do
    tags[ARGV[i]] = true
  end
  p = p + count + 1
  return tags
end

local returned = 0
for base = 0, (queues - 1) * width, width do
  local done, crashed = next_tags(), next_tags()
  local held = call('HGETALL', KEYS[base + 2])
  local rest = KEYS[base + width]
  local is_apart = call('EXISTS', rest) == 1
  local order, stored = {}, {}
  for i = 1, #held, 2 do
    if not done[held[i]] then
      order[#order + 1] = tonumber(held[i])
      stored[tonumber(held[i])] = is_apart and whole(rest, held[i], held[i + 1]) or held[i + 1]
    end
  end
  table.sort(order, function(a, b) return a > b end)
  for _, tag in ipairs(order) do
    local envelope, origin = stored[tag], tag % 16
    if mode == 'sweep' or crashed[string.format('%.0f', tag)] then
      call('RPUSH', KEYS[base + 5], counted(envelope))
    elseif origin == 15 then
      call('RPUSH', KEYS[base + 5], envelope)
    else
      call('RPUSH', KEYS[base + 9 + math.min(origin, lists - 1)], envelope)
    end
  end
  returned = returned + #order
  call('DEL', KEYS[base + 2], rest)
  call('ZREM', KEYS[base + 1], consumer)
  local out = call('GET', KEYS[base + 6])
  if out and string.sub(out, 1, #consumer + 1) == consumer .. ':' then
    call('DEL', KEYS[base + 6])
  end
end
return returned
