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


_CLOCK_AND_STATE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local function state()
  local s = redis.call('HMGET', KEYS[2], 'closed_until', 'learnt', 'learnt_at', 'strikes', 'noted_at')
  local closed, ceiling = tonumber(s[1] or 0), limit
  if s[2] then
    local quiet = math.floor((now - tonumber(s[3])) / window)
    ceiling = math.min(limit, tonumber(s[2]) + quiet * limit * 0.05)
  end
  return closed, ceiling, tonumber(s[4] or 0), tonumber(s[5] or 0)
end
"""

# ARGV: limit, window, reserve, cost, token, calls we know of ourselves [, at, token, cost of each of those
# ...] Reply: wait (0: granted; -1: Redis knows less than the caller), now, used, ceiling, closed until
TAKE = (
    _CLOCK_AND_STATE
    + """
local reserve, cost, token, mine = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
for i = 7, #ARGV, 3 do
  for n = 1, tonumber(ARGV[i + 2]) do
    redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1] .. '/' .. n)
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
if used < mine then return {-1, now} end
local closed, ceiling = state()
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
  redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1000)
end
return {wait, now, used, math.floor(ceiling), closed}
"""
)

# ARGV: limit, window, pause asked for by the remote side (-1: it named none). Reply: closed until, now
NOTE = (
    _CLOCK_AND_STATE
    + """
local asked = tonumber(ARGV[3])
local closed, ceiling, strikes, noted = state()
if closed <= now then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
  local used = redis.call('ZCARD', KEYS[1])
  local learnt = math.max(1, limit * 0.1, math.min(ceiling, math.max(used, ceiling * 0.7)))
  strikes = (now - noted < window) and strikes + 1 or 1
  redis.call('HSET', KEYS[2], 'learnt', learnt, 'learnt_at', now, 'strikes', strikes)
end
local pause = asked >= 0 and asked or math.min(60, 15 * math.max(1, strikes)) * 1000000
closed = math.max(closed, now + math.max(1000000, math.min(pause, math.max(window, 60000000))))
redis.call('HSET', KEYS[2], 'closed_until', closed, 'noted_at', now)
redis.call('PEXPIRE', KEYS[2], math.ceil(window / 1000) * 20 + 60000)
return {closed, now}
"""
)
