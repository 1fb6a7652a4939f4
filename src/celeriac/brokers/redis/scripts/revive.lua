-- revive: move dead letters back to their queue, as if they had never crashed anything.
--
-- KEYS: 1 dead (zset id -> ms), 2 letters (hash id -> "<crashes>:<length>:<reason><envelope>"), 3... lists.
-- ARGV: for each letter: id, list index.
-- Returns how many there were.

local count = 0
for i = 1, #ARGV, 2 do
  local letter = redis.call('HGET', KEYS[2], ARGV[i])
  if letter then
    local size, rest = string.match(letter, '^%d+:(%d+):(.*)$')
    redis.call('LPUSH', KEYS[3 + ARGV[i + 1]], string.sub(rest, size + 1))
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[1], ARGV[i])
    count = count + 1
  end
end
return count
