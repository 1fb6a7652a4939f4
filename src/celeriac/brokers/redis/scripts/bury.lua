-- bury: keep a message that no queue takes where the operator sees it.
--
-- KEYS: 1 dead (zset id -> ms), 2 letters (hash id -> "<crashes>:<length>:<reason><envelope>"), 3 seq (string).
-- ARGV: reason, envelope.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = string.format('%016.0f', redis.call('INCRBY', KEYS[3], 16))
redis.call('ZADD', KEYS[1], now, id)
redis.call('HSET', KEYS[2], id, '0:' .. #ARGV[1] .. ':' .. ARGV[1] .. ARGV[2])
return 1
