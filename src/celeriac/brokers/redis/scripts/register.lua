-- register: give a consumer its lease on queues. A lease of that name that is still there is joined.
--
-- KEYS: the leases (zset consumer -> ms) of each queue.
-- ARGV: consumer, ttl ms.
-- Returns 1 when the lease was there before in one of them, else 0.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local joined = 0
for _, leases in ipairs(KEYS) do
  if redis.call('ZADD', leases, now + ARGV[2], ARGV[1]) == 0 then
    joined = 1
  end
end
return joined
