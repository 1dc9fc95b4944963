"""The two steps of a shared budget as Redis runs them: each decides and records at once, by Redis's own
clock.

They are the same arithmetic as :mod:`app.core.http.budget_window`; the tests drive both through the same
schedules. Times are microseconds since 1970 (16 digits: exact in a Lua number, which holds 53 bits)."""

from collections.abc import Sequence
from typing import Any, Protocol


class Script(Protocol):
    """A registered script of redis-py."""

    async def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run by hash, loading the text again when Redis does not know it."""
        ...


# What was learnt outlives the calls: the ceiling needs 5 quiet windows to recover from its floor.
MEMORY_WINDOWS = 20

_CLOCK_AND_STATE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local function state()
  local s = redis.call('HMGET', KEYS[2], 'closed_until', 'learnt', 'learnt_at', 'strikes', 'noted_at')
  local closed, ceiling = tonumber(s[1] or 0), limit
  if s[2] then
    local quiet = math.floor((now - tonumber(s[3])) / window)
    ceiling = math.min(limit, tonumber(s[2]) + quiet * limit * 0.2)
  end
  return closed, ceiling, tonumber(s[4] or 0), tonumber(s[5] or 0)
end
"""

# ARGV: limit, window, reserve, cost, token, memory the caller has told its calls to ("": none), closed until as the
# caller knows it, then calls that this memory lacks: at, token, cost of each.
# Reply: wait (0: granted; -1: this is another memory, tell it your calls first), now, used, ceiling, closed until,
# memory. The memory is named by the time it began; a flushed or restarted Redis begins a new one.
TAKE = (
    f"local MEMORY_WINDOWS = {MEMORY_WINDOWS}"
    + _CLOCK_AND_STATE
    + """
local reserve, cost, token = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
redis.call('HSETNX', KEYS[2], 'memory', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[2], math.ceil(window / 1000) * MEMORY_WINDOWS + 60000)
local memory = redis.call('HGET', KEYS[2], 'memory')
if ARGV[6] ~= '' and ARGV[6] ~= memory then return {-1, now, 0, 0, 0, memory} end
for i = 8, #ARGV, 3 do
  for n = 1, tonumber(ARGV[i + 2]) do
    redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1] .. '/' .. n)
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
local closed, ceiling = state()
if tonumber(ARGV[7]) > closed then
  closed = tonumber(ARGV[7])
  redis.call('HSET', KEYS[2], 'closed_until', ARGV[7])
end
local wait = 0
local room = math.max(cost, math.floor(ceiling * (limit - reserve) / limit))
if closed > now then
  wait = closed - now
elseif used + cost > room then
  local leaving = used + cost - room - 1
  local oldest = redis.call('ZRANGE', KEYS[1], leaving, leaving, 'WITHSCORES')
  wait = math.max(1, tonumber(oldest[2]) + window - now)
else
  for n = 1, cost do redis.call('ZADD', KEYS[1], now, token .. '/' .. n) end
  used = used + cost
end
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1000)
return {wait, now, used, math.floor(ceiling), closed, memory}
"""
)

# ARGV: limit, window, pause asked for by the remote side (-1: it named none). Reply: closed until, now
NOTE = (
    f"local MEMORY_WINDOWS = {MEMORY_WINDOWS}"
    + _CLOCK_AND_STATE
    + """
local asked = tonumber(ARGV[3])
local closed, ceiling, strikes, noted = state()
if closed <= now then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
  local used = redis.call('ZCARD', KEYS[1])
  local learnt = math.max(1, limit * 0.1, math.min(ceiling, math.max(used, ceiling * 0.7)))
  strikes = (now - noted < window) and strikes + 1 or 1
  redis.call('HSET', KEYS[2], 'strikes', strikes)
  if asked < 0 then redis.call('HSET', KEYS[2], 'learnt', learnt, 'learnt_at', now) end
end
local pause = asked >= 0 and asked or math.min(60, 15 * math.max(1, strikes)) * 1000000
closed = math.max(closed, now + math.max(1000000, math.min(pause, math.max(window, 60000000))))
redis.call('HSET', KEYS[2], 'closed_until', closed, 'noted_at', now)
redis.call('PEXPIRE', KEYS[2], math.ceil(window / 1000) * MEMORY_WINDOWS + 60000)
return {closed, now}
"""
)
