-- revoke: put task ids on record until a time, and drop the records that are over.
--
-- KEYS: 1 revoked (zset task id -> ms). ARGV: ttl ms, ids.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
end
return #ARGV - 1
