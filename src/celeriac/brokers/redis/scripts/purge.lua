-- purge: drop everything of a queue that nobody holds.
--
-- KEYS: 1 delayed (zset), 2 suspects, 3... lists. ARGV: none.
-- Returns how many messages there were.

local count = redis.call('ZCARD', KEYS[1])
for i = 2, #KEYS do
  count = count + redis.call('LLEN', KEYS[i])
end
redis.call('DEL', unpack(KEYS))
return count
