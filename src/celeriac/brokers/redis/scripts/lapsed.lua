-- lapsed: whose lease has run out? Reads only.
--
-- KEYS: the leases (zset consumer -> ms) of each queue. ARGV: none.
-- Returns for each queue a list of consumers.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for i, leases in ipairs(KEYS) do
  found[i] = redis.call('ZRANGEBYSCORE', leases, '-inf', now)
end
return found
