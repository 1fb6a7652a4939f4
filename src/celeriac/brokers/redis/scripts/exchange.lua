-- exchange: settle what a consumer has finished, then hand it what comes next. One atomic step.
--
-- KEYS, for each queue in the order of service, 9 + lists of them:
--   1 leases      zset    consumer -> ms at which its lease lapses; a consumer that is not in it is refused
--   2 held        hash    tag -> envelope, of this consumer
--   3 seq         string  counts in steps of 16
--   4 delayed     zset    <list index><16 digits><envelope> -> due ms
--   5 suspects    list    envelopes that have crashed a process; handed out alone
--   6 quarantine  string  "<consumer>:<tag>" of the suspect that is out
--   7 dead        zset    id -> ms
--   8 letters     hash    id -> "<crashes>:<length of reason>:<reason><envelope>"
--   9...          lists   one for each priority step, most urgent first
--   last rest     hash    of this consumer: what is held without the rest of its chain (see whole.lua)
-- then, where ARGV points to them: the keys of follow-ups (list, delayed, seq, leases; dead, letters, seq; or a
-- channel) and of results (string, also the channel on which the document is published).
--
-- ARGV: consumer, limit, queues, lists, rich settlements, database of results (-1: this one), this database,
--   quarantine ms, whether to look at everything (1) or to take the short way where it leads (0), whether one of
--   the settled is held without the rest of its chain (1, 0);
--   for each queue: n, then n tags that are acknowledged and nothing else;
--   for each rich settlement: queue, tag, verdict, reason, follow-ups, results;
--     for each follow-up: key index, kind (0 now, 1 in ms, 2 at ms, 3 to the dead letters, 4 to a channel, 5 now
--       and without its steps), ms or reason, list index, whether it says itself when it is due (see
--       publish.lua), envelope. Of kind 5, which goes to the queue of what is settled, without a key index:
--       "<length> <at>" of its steps for ms; then the text they are in, or '' for that of what is settled;
--     for each result: key index, ttl ms (0: none), document.
--
-- Returns {1} when a lease is gone (nothing was done), else
--   {0, now ms, ms of the next change or -1, stale {queue, tag, ...}, counts held {...},
--    queue, first tag, {envelopes}, ...}; tags go up by 16. A suspect comes alone.
--   By the short way 'now' and the counts are 0: not looked up. In place of {envelopes} stands 0 for the
--   follow-up of this very call, when there was but one (see hand_over).

local call = redis.call
local consumer, limit = ARGV[1], tonumber(ARGV[2])
local queues, lists, rich = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local width = 9 + lists

for base = 0, (queues - 1) * width, width do
  if not call('ZSCORE', KEYS[base + 1], consumer) then
    return {1}
  end
end

local is_apart = ARGV[10] == '1'
local p = 11
for base = 0, (queues - 1) * width, width do
  local count = tonumber(ARGV[p])
  local last = p + count
  for first = p + 1, last, 4000 do
    call('HDEL', KEYS[base + 2], unpack(ARGV, first, math.min(first + 3999, last)))
  end
  p = last + 1
end

local reply = {0, 0, -1, {}, 0}

-- No more than a fair share: the other consumers of the queue may be idle.
local function share(base, depth, room)
  if room == 1 then
    return 1
  end
  return math.min(room, math.max(1, math.ceil(depth / call('ZCARD', KEYS[base + 1]))))
end

local function take(queue, base, index, want)
  local envelopes = call('RPOP', KEYS[base + 9 + index], want)
  if not envelopes then
    return 0
  end
  local count = #envelopes
  local tag = call('INCRBY', KEYS[base + 3], 16 * count) - 16 * (count - 1) + index
  local size = #reply
  reply[size + 1], reply[size + 2], reply[size + 3] = queue, tag, envelopes
  if count == 1 then
    call('HSET', KEYS[base + 2], tag, envelopes[1])
    return 1
  end
  local fields = {}
  size = 0
  for i = 1, count do
    fields[size + 1], fields[size + 2] = tag, envelopes[i]
    size, tag = size + 2, tag + 16
    if size == 4000 then
      call('HSET', KEYS[base + 2], unpack(fields, 1, size))
      size = 0
    end
  end
  if size > 0 then
    call('HSET', KEYS[base + 2], unpack(fields, 1, size))
  end
  return count
end

-- The short way: nothing to settle but acknowledgements, nothing delayed, no suspects, one list each.
local short = rich == 0 and ARGV[9] == '0'
for base = 0, (queues - 1) * width, width do
  short = short
    and call('EXISTS', KEYS[base + 4], KEYS[base + 5], unpack(KEYS, base + 10, base + 8 + lists)) == 0
end
if short then
  for queue = 0, queues - 1 do
    local base = queue * width
    if limit == 1 then
      limit = limit - take(queue, base, 0, 1)
    elseif limit > 1 then
      local depth = call('LLEN', KEYS[base + 9])
      if depth > 0 then
        limit = limit - take(queue, base, 0, share(base, depth, limit))
      end
    end
  end
  return reply
end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stale, results = {}, {}

local function bury(dead, letters, seq, crashes, reason, envelope)
  -- Sixteen digits: letters of one millisecond are ordered by their ids.
  local id = string.format('%016.0f', call('INCRBY', seq, 16))
  call('ZADD', dead, now, id)
  call('HSET', letters, id, crashes .. ':' .. #reason .. ':' .. reason .. envelope)
end

local function plain(stored)
  local crashes, rest = string.match(stored, '^{"celeriac%-crashes":(%d+),(.*)$')
  if not crashes then
    return 0, stored
  elseif string.byte(rest) == 0 then
    return tonumber(crashes), string.sub(rest, 2)
  end
  return tonumber(crashes), '{' .. rest
end

-- A follow-up that its own consumer is the next to take goes to it without the way through the list and back,
-- which costs a large one more than all else here: each time an envelope comes into Lua, its bytes are hashed.
local handed
local function hand_over(list, index, envelope)
  local mine
  for base = 0, (queues - 1) * width, width do
    if call('EXISTS', KEYS[base + 4], KEYS[base + 5], unpack(KEYS, base + 9, base + 8 + lists)) > 0 then
      return false
    elseif KEYS[base + 9 + index] == list then
      mine = base
    end
  end
  if not mine then
    return false
  end
  local tag = call('INCRBY', KEYS[mine + 3], 16) + index
  call('HSET', KEYS[mine + 2], tag, envelope)
  handed = {mine / width, tag, 0}
  return string.format('%.0f', tag)
end

-- A follow-up without its steps, which are in the text `former` when none comes along. Handed over it stays as it is;
-- true when it has taken over that text. To go to its list it must be whole.
local function follow_apart(at, alone, base, former)
  local rest, list, value = KEYS[base + width], KEYS[base + 9 + ARGV[at + 3]], ARGV[at + 2]
  local text, envelope = ARGV[at + 4], ARGV[at + 5]
  local is_new = text ~= ''
  local tag = (is_new or former) and alone and limit > 0 and hand_over(list, tonumber(ARGV[at + 3]), envelope)
  if tag then
    call('HSET', rest, tag, (is_new and tag or former) .. ' ' .. value)
    if is_new then
      call('HSET', rest, '=' .. tag, text)
    end
    return not is_new
  end
  text = is_new and text or (former and call('HGET', rest, '=' .. former))
  if text then
    call('LPUSH', list, filled(envelope, value, text))
  else -- somebody has deleted it: kept where the operator sees it
    bury(KEYS[base + 7], KEYS[base + 8], KEYS[base + 3], 0, 'the rest of its chain is gone from Redis', envelope)
  end
  return false
end

local function follow_up(at, alone)
  local key, kind, value = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local index, tells, envelope = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  if kind == '3' then
    bury(KEYS[key], KEYS[key + 1], KEYS[key + 2], 0, value, envelope)
    return
  elseif kind == '4' then
    call('PUBLISH', KEYS[key], envelope)
    return
  end
  local due = tonumber(value)
  if kind == '1' then
    due = now + due
  end
  if due <= now or (tells == '1' and call('ZCOUNT', KEYS[key + 3], now, '+inf') == 0) then
    if not (alone and limit > 0 and hand_over(KEYS[key], tonumber(index), envelope)) then
      call('LPUSH', KEYS[key], envelope)
    end
  else
    local unique = string.format('%016.0f', call('INCRBY', KEYS[key + 2], 16))
    call('ZADD', KEYS[key + 1], due, string.char(48 + index) .. unique .. envelope)
  end
end

for _ = 1, rich do
  local queue, tag, verdict, reason = ARGV[p], ARGV[p + 1], ARGV[p + 2], ARGV[p + 3]
  local follow_ups, documents = tonumber(ARGV[p + 4]), tonumber(ARGV[p + 5])
  local base = queue * width
  p = p + 6
  local rest, former, is_kept = KEYS[base + width], nil, false
  local stored = verdict ~= 'ack' and call('HGET', KEYS[base + 2], tag)
  if is_apart then
    stored = stored and whole(rest, tag, stored)
    former = call('HGET', rest, tag)
    former = former and string.match(former, '^%d+')
  end
  local held = call('HDEL', KEYS[base + 2], tag) == 1
  if held then
    local origin = tonumber(tag) % 16
    if origin == 15 and call('GET', KEYS[base + 6]) == consumer .. ':' .. tag then
      call('DEL', KEYS[base + 6])
    end
    if verdict == 'requeue' then
      call('RPUSH', origin == 15 and KEYS[base + 5] or KEYS[base + 9 + math.min(origin, lists - 1)], stored)
    elseif verdict == 'dead' then
      local crashes, envelope = plain(stored)
      bury(KEYS[base + 7], KEYS[base + 8], KEYS[base + 3], crashes, reason, envelope)
    end
  else
    stale[#stale + 1] = tonumber(queue)
    stale[#stale + 1] = tonumber(tag)
  end
  for _ = 1, follow_ups do
    if held and ARGV[p + 1] == '5' then
      is_kept = follow_apart(p, rich == 1 and follow_ups == 1, base, former)
    elseif held then
      follow_up(p, rich == 1 and follow_ups == 1)
    end
    p = p + 6
  end
  if former then
    call('HDEL', rest, tag, is_kept and tag or '=' .. former)
  end
  for _ = 1, documents do
    if held then
      results[#results + 1] = p
    end
    p = p + 3
  end
end

if #results > 0 then
  local elsewhere = ARGV[6] ~= '-1'
  if elsewhere then
    call('SELECT', ARGV[6])
  end
  for _, at in ipairs(results) do
    local key, ttl, document = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
    if ttl == '0' then
      call('SET', key, document)
    else
      call('SET', key, document, 'PX', ttl)
    end
    call('PUBLISH', key, document)
  end
  if elsewhere then
    call('SELECT', ARGV[7])
  end
end

-- What is due moves to its list; suspects are looked at in all queues first, for they go alone.
local next_change = -1

local function soonest(ms)
  if next_change < 0 or ms < next_change then
    next_change = ms
  end
end

local function promote(base)
  local head = call('ZRANGE', KEYS[base + 4], 0, 0, 'WITHSCORES')
  if not head[2] then
    return
  end
  if tonumber(head[2]) <= now then
    local ready = call('ZRANGEBYSCORE', KEYS[base + 4], '-inf', now, 'LIMIT', 0, 1000)
    for _, member in ipairs(ready) do
      local index = math.min(string.byte(member) - 48, lists - 1)
      call('LPUSH', KEYS[base + 9 + index], string.sub(member, 18))
    end
    call('ZREMRANGEBYRANK', KEYS[base + 4], 0, #ready - 1)
    head = call('ZRANGE', KEYS[base + 4], 0, 0, 'WITHSCORES')
  end
  if head[2] then
    soonest(math.max(now, tonumber(head[2])))
  end
end

local function take_suspect(queue, base)
  if call('LLEN', KEYS[base + 5]) == 0 then
    return false
  end
  local left = call('PTTL', KEYS[base + 6])
  if left > 0 then
    soonest(now + left)
    return false
  end
  local envelope = call('RPOP', KEYS[base + 5])
  local tag = string.format('%.0f', call('INCRBY', KEYS[base + 3], 16) + 15)
  call('HSET', KEYS[base + 2], tag, envelope)
  call('SET', KEYS[base + 6], consumer .. ':' .. tag, 'PX', ARGV[8])
  reply[6], reply[7], reply[8] = queue, tonumber(tag), {envelope}
  return true
end

local function take_all(queue, base, room)
  local lengths, depth = {}, 0
  for index = 0, lists - 1 do
    lengths[index] = call('LLEN', KEYS[base + 9 + index])
    depth = depth + lengths[index]
  end
  local taken, want = 0, depth > 0 and share(base, depth, room) or 0
  for index = 0, lists - 1 do
    if lengths[index] > 0 and taken < want then
      taken = taken + take(queue, base, index, want - taken)
    end
  end
  return taken
end

reply[2], reply[4], reply[5] = now, stale, {}
local alone = false
if handed then -- nothing else is there
  reply[6], reply[7], reply[8] = unpack(handed)
  limit = 0
end
for queue = 0, queues - 1 do
  if not handed then
    promote(queue * width)
  end
  alone = alone or (limit > 0 and take_suspect(queue, queue * width))
end
for queue = 0, queues - 1 do
  if limit > 0 and not alone then
    limit = limit - take_all(queue, queue * width, limit)
  end
  reply[5][queue + 1] = call('HLEN', KEYS[queue * width + 2])
end
reply[3] = next_change
return reply
