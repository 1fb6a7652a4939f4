-- revoked: which task ids are on record? Reads only.
--
-- KEYS: 1 revoked (zset task id -> ms). ARGV: none.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
