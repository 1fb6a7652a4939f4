-- arm: is there anything to take? Reads only; run under CLIENT CACHING YES it arms client tracking on all its
-- keys, so that the next change by anybody pushes one message to the consumer.
--
-- KEYS, for each queue, 3 + lists of them:
--   1 delayed, 2 suspects, 3 quarantine, 4... lists   (see exchange.lua)
-- ARGV: queues, lists.
-- Returns {1 if something can be taken now else 0, ms until the next change or -1}.

local call = redis.call
local queues, lists = tonumber(ARGV[1]), tonumber(ARGV[2])
local width = 3 + lists
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ready, next_change = 0, -1

local function soonest(ms)
  if next_change < 0 or ms < next_change then
    next_change = math.max(0, ms)
  end
end

for base = 0, (queues - 1) * width, width do
  for index = 1, lists do
    if call('LLEN', KEYS[base + 3 + index]) > 0 then
      ready = 1
    end
  end
  local head = call('ZRANGE', KEYS[base + 1], 0, 0, 'WITHSCORES')
  if head[2] then
    soonest(tonumber(head[2]) - now)
  end
  if call('LLEN', KEYS[base + 2]) > 0 then
    soonest(math.max(0, call('PTTL', KEYS[base + 3])))
  end
end

if next_change == 0 then
  ready = 1
end
return {ready, next_change}
