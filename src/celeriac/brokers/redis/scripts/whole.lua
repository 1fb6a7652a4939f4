-- whole: functions for what is held without the rest of its chain. The head of exchange.lua and give_back.lua.
--
-- A long chain's message holds all steps that are to come, and each step's message all of them but one. What goes
-- from one step to the next in the hands of one consumer is held without them:
--   held  hash  tag -> the envelope, with a mark (one byte) where the steps are missing
--   rest  hash  tag -> "<name> <length> <at>": of the text <name> so many bytes belong behind byte <at>;
--               "=<name>" -> the text: steps in base64, of which each message of the chain has a prefix
-- Each text belongs to one tag. In any list, and in the dead letters, an envelope is whole.

-- The envelope; `value` ends with the length and the place of what is missing.
local function filled(envelope, value, text)
  local length, at = string.match(value, '(%d+) (%d+)$')
  return string.sub(envelope, 1, at) .. string.sub(text, 1, length) .. string.sub(envelope, at + 2)
end

-- The envelope of what is held under `tag`. Without its text it keeps the mark, and nobody can read it.
local function whole(rest, tag, envelope)
  local value = redis.call('HGET', rest, tag)
  local text = value and redis.call('HGET', rest, '=' .. string.match(value, '^%d+'))
  return text and filled(envelope, value, text) or envelope
end
