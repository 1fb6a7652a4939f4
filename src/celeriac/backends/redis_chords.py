"""Chords in Redis or Valkey, counted together with Celery's workers.

1. `RedisChords`: `ChordStore`; one script call per chord, all of a batch in one trip (on a cluster: one for
   each chord).
2. The scripts.

Celery's keys, in the same form, so that members that ran on its workers and on ours count together::

    celery-taskset-meta-<id>.j   zset    [1, task id, state, value] -> place in the header
    celery-taskset-meta-<id>.s   string  size; absent: not known yet, or complete
    celery-taskset-meta-<id>.t   string  how much it has grown

Ours, where Celery would count a member twice::

    …<id>.i   set     ids of members that arrived here      …<id>.x   set     ids of those it has grown by
    …<id>.c   string  "open:" or "closed:" and the closer   …<id>.b   string  the body, encoded

On a cluster ``<id>`` stands in braces, so that all keys of a chord are in one slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from celeriac.backends.base import Chord, Opening, Part
from celeriac.transport.redis.link import Link, ReplyError, refusal
from celeriac.transport.redis.pool import Pool, Script

__all__ = ["RedisChords"]

_SUFFIXES: Final = (".j", ".t", ".s", ".i", ".x", ".c", ".b")
_DAY: Final = 86_400

#: What all scripts begin with; the keys come in the order of `_SUFFIXES`.
_KEYS: Final = "local j, t, s, i, x, c, b = unpack(KEYS)\n"

#: ARGV: size, ttl in ms (0: none), body (empty: none).
OPEN: Final = Script(
    _KEYS
    + """
if redis.call('EXISTS', c) == 1 then return 0 end
local ttl = tonumber(ARGV[2])
local function keep(key, value)
  if ttl > 0 then redis.call('SET', key, value, 'NX', 'PX', ttl) else redis.call('SET', key, value, 'NX') end
end
if ARGV[1] ~= '0' then keep(s, ARGV[1]) end
if ARGV[3] ~= '' then keep(b, ARGV[3]) end
return 1
"""
)

#: ARGV: size.
SEAL: Final = Script(
    _KEYS
    + """
if redis.call('EXISTS', c) == 1 then return 0 end
local ttl = math.max(redis.call('PTTL', i), redis.call('PTTL', b))
redis.call('SET', s, ARGV[1])
if ttl > 0 then redis.call('PEXPIRE', s, ttl) end
return 1
"""
)

#: ARGV: task ids.
GROW: Final = Script(
    _KEYS
    + """
if redis.call('EXISTS', c) == 1 then return 0 end
local new = 0
for n = 1, #ARGV do new = new + redis.call('SADD', x, ARGV[n]) end
if new > 0 then redis.call('INCRBY', t, new) end
local ttl = math.max(redis.call('PTTL', s), redis.call('PTTL', i))
if ttl > 0 then redis.call('PEXPIRE', x, ttl); redis.call('PEXPIRE', t, ttl) end
return new
"""
)

#: ARGV: size as the members say it (0: they do not), ttl in ms (0: none); then for each member its id, place,
#: payload, and '1' when it was added later. Returns the closer's id, or nothing.
ARRIVE: Final = Script(
    _KEYS
    + """
local closer = redis.call('GET', c)
if closer then return string.sub(closer, string.find(closer, ':') + 1) end
local size = redis.call('GET', s)
if not size and ARGV[1] ~= '0' and redis.call('EXISTS', i) == 0 then
  redis.call('SET', s, ARGV[1])
  size = ARGV[1]
end
size = tonumber(size)
local grown = tonumber(redis.call('GET', t) or 0)
local count = redis.call('ZCARD', j)
for n = 3, #ARGV, 4 do
  local id = ARGV[n]
  if redis.call('SADD', i, id) == 1 then
    if ARGV[n + 3] == '1' and redis.call('SADD', x, id) == 1 then grown = redis.call('INCRBY', t, 1) end
    count = count + redis.call('ZADD', j, ARGV[n + 1], ARGV[n + 2])
    if size and count >= size + grown then
      closer = id
      redis.call('SET', c, 'open:' .. id)
      redis.call('DEL', s, t)
      break
    end
  end
end
local ttl = tonumber(ARGV[2])
if ttl > 0 then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
end
return closer
"""
)

LOAD: Final = Script(
    _KEYS
    + """
local closer = redis.call('GET', c)
if closer and string.sub(closer, 1, 7) == 'closed:' then return false end
if redis.call('EXISTS', j, s, b) == 0 then return false end
local size = tonumber(redis.call('GET', s) or 0) + tonumber(redis.call('GET', t) or 0)
local parts = redis.call('ZRANGE', j, 0, -1)
if closer then size = #parts end
return {size, redis.call('GET', b), parts}
"""
)

#: ARGV: for how long the closer is remembered when the chord has no ttl, in seconds.
CLOSE: Final = Script(
    _KEYS
    + """
local closer = redis.call('GET', c)
if closer then
  local ttl = redis.call('PTTL', c)
  if ttl < 0 then ttl = ARGV[1] * 1000 end
  redis.call('SET', c, 'closed:' .. string.sub(closer, string.find(closer, ':') + 1), 'PX', ttl)
end
return redis.call('DEL', j, t, s, i, x, b)
"""
)


class RedisChords:
    """See `ChordStore`.

    Args:
        pool: the backend's connections.
        prefix: what the keys of groups begin with.
    """

    def __init__(self, pool: Pool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix

    def open_chords(self, openings: Sequence[Opening]) -> None:
        self._run_all(
            OPEN, [(each.chord_id, [each.size, _ms(each.ttl), each.body or b""]) for each in openings]
        )

    def seal_chord(self, chord_id: str, size: int) -> None:
        self._run_all(SEAL, [(chord_id, [size])])

    def grow_chord(self, chord_id: str, ids: Sequence[str]) -> None:
        self._run_all(GROW, [(chord_id, list(ids))])

    def arrive(self, parts: Sequence[Part]) -> Sequence[bool]:
        calls: dict[str, list[Any]] = {}
        for chord_id, task_id, position, payload, size, ttl, extra in parts:
            args = calls.get(chord_id)
            if args is None:
                args = calls[chord_id] = [size, _ms(ttl)]
            args += (task_id, "+inf" if position is None else position, payload, b"1" if extra else b"0")
        closers = dict(zip(calls, self._run_all(ARRIVE, list(calls.items())), strict=True))
        return [closers[part.chord_id] == part.task_id.encode() for part in parts]

    def load_chord(self, chord_id: str) -> Chord | None:
        (found,) = self._run_all(LOAD, [(chord_id, [])])
        return None if found is None else Chord(*found)

    def close_chord(self, chord_id: str) -> None:
        self._run_all(CLOSE, [(chord_id, [_DAY])])

    def _keys(self, chord_id: str) -> list[bytes]:
        name = f"{self._prefix}{{{chord_id}}}" if self._pool.is_cluster else self._prefix + chord_id
        return [(name + suffix).encode() for suffix in _SUFFIXES]

    def _run_all(self, script: Script, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Run `script` for each (chord, arguments); the replies."""
        packed = []
        for chord_id, args in calls:
            keys = self._keys(chord_id)
            packed.append((keys[0], script.packed(keys, args)))
        if not packed:
            return []
        trips = [[call] for call in packed] if self._pool.is_cluster else [packed]
        replies: list[Any] = []
        for trip in trips:
            replies += self._pool.run(trip[0][0], _trip(script, [data for _, data in trip]))
        return replies


def _trip(script: Script, data: Sequence[bytes]) -> Callable[[Link, float], list[Any]]:
    return lambda link, until: _call(link, script, data, until)


def _call(link: Link, script: Script, data: Sequence[bytes], until: float) -> list[Any]:
    replies = link.pipeline(data, until)
    if any(_is_unknown(reply) for reply in replies):
        script.load(link, until)
        replies = link.pipeline(data, until)  # scripts that did run change nothing the second time
    for reply in replies:
        if type(reply) is ReplyError:
            raise refusal(reply, link.where)
    return list(replies)


def _is_unknown(reply: Any) -> bool:
    return type(reply) is ReplyError and str(reply).startswith("NOSCRIPT")


def _ms(ttl: float | None) -> int:
    return 0 if ttl is None else max(1, int(ttl * 1000))
