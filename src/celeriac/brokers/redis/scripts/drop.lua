-- drop: delete dead letters.
--
-- KEYS: 1 dead (zset id -> ms), 2 letters (hash). ARGV: ids.
-- Returns how many there were.

local count = 0
for _, id in ipairs(ARGV) do
  count = count + redis.call('HDEL', KEYS[2], id)
  redis.call('ZREM', KEYS[1], id)
end
return count
