-- beat: renew leases that are still there.
--
-- KEYS: the leases (zset consumer -> ms) of each queue.
-- ARGV: ttl ms; for each consumer: its name, n, then n indices into KEYS.
-- Returns the names of those that have lost their lease on one of their queues (none of theirs is renewed).

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lapses = now + ARGV[1]
local lost, p = {}, 2
while p <= #ARGV do
  local consumer, count = ARGV[p], tonumber(ARGV[p + 1])
  local alive = true
  for i = p + 2, p + 1 + count do
    alive = alive and redis.call('ZSCORE', KEYS[tonumber(ARGV[i])], consumer)
  end
  if alive then
    for i = p + 2, p + 1 + count do
      redis.call('ZADD', KEYS[tonumber(ARGV[i])], 'XX', lapses, consumer)
    end
  else
    lost[#lost + 1] = consumer
  end
  p = p + 2 + count
end
return lost
