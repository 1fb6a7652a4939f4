-- publish: store a batch of messages in one queue, all or none; a repeated batch stores nothing.
--
-- KEYS: 1 producer  string  sequence number of the producer's last batch for this queue, kept 120 s
--   and either  2 list  when everything goes there now,
--   or          2 delayed, 3 seq, 4 leases, 5... lists (see exchange.lua).
-- ARGV: sequence number; in the first form the envelopes, oldest first;
--   in the second, for each message: list index, kind (0 now, 1 in ms, 2 at ms), ms, whether the message itself
--   says when it is due (1, 0), envelope.
-- A delayed message is moved by our consumers when it is due. While none is alive, one that says itself when it is
-- due goes to its list, where a peer of Celery's can take it and wait.
-- Returns 1, or 0 when the batch was here before.

local call = redis.call
local last = call('SET', KEYS[1], ARGV[1], 'EX', '120', 'GET')
if last and tonumber(last) >= tonumber(ARGV[1]) then
  call('SET', KEYS[1], last, 'EX', '120')
  return 0
end

if #KEYS == 2 and #ARGV == 2 then
  call('LPUSH', KEYS[2], ARGV[2])
elseif #KEYS == 2 then
  for first = 2, #ARGV, 4000 do
    call('LPUSH', KEYS[2], unpack(ARGV, first, math.min(first + 3999, #ARGV)))
  end
else
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local alone = call('ZCOUNT', KEYS[4], now, '+inf') == 0
  for at = 2, #ARGV, 5 do
    local index, kind, due, tells = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
    local envelope = ARGV[at + 4]
    if kind == '1' then
      due = now + due
    end
    if kind == '0' or due <= now or (alone and tells == '1') then
      call('LPUSH', KEYS[5 + index], envelope)
    else
      local unique = string.format('%016.0f', call('INCRBY', KEYS[3], 16))
      call('ZADD', KEYS[2], due, string.char(48 + index) .. unique .. envelope)
    end
  end
end
return 1
