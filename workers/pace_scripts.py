"""What happens inside Redis when a judge's limits are shared: Lua, one script at a time.

Keys, all of one endpoint: 1 the hash of levels (``requests``, ``tokens``, the time ``at`` of both,
``hold``, ``ticket``), 2 the places taken and until when, 3 the line of those who wait, by ticket,
4 until when each of them counts as alive.  The arithmetic is that of
``monosemy.interp.judging.pace.Bucket``, by Redis' own clock.
"""

_KEEP_SECONDS = 600
"""Keys that nobody has touched for so long, beyond any debt, are dropped: the buckets are full."""

_BEGIN = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local stored = redis.call('HMGET', KEYS[1], 'at', 'requests', 'tokens', 'hold')
local at, hold = tonumber(stored[1]) or now, tonumber(stored[4]) or 0
local function filled(kept, rate, size)
  return math.min(size, (tonumber(kept) or size) + math.max(0, now - at) * rate)
end
local function keep(requests, tokens, longest)
  redis.call('HSET', KEYS[1], 'at', string.format('%.6f', now),
    'requests', string.format('%.6f', requests), 'tokens', string.format('%.6f', tokens))
  local seconds = {_KEEP_SECONDS} + math.ceil(math.max(0, longest))
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, seconds) end
end
local function wake_first(channel)
  local first = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
  if first then redis.call('PUBLISH', channel .. first, '') end
end
"""

TAKE = (
    _BEGIN
    + """
local waiter, place, channel = ARGV[1], ARGV[2], ARGV[3]
local request_rate, request_size = tonumber(ARGV[4]), tonumber(ARGV[5])
local token_rate, token_size = tonumber(ARGV[6]), tonumber(ARGV[7])
local tokens, places = tonumber(ARGV[8]), tonumber(ARGV[9])
local lease, patience = tonumber(ARGV[10]), tonumber(ARGV[11])

redis.call('ZREM', KEYS[2], place)  -- from a try whose answer was lost
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)) do
  redis.call('ZREM', KEYS[3], dead)
  redis.call('ZREM', KEYS[4], dead)
end

local r = filled(stored[2], request_rate, request_size)
local t = filled(stored[3], token_rate, token_size)
local wait = hold - now
if request_rate > 0 then wait = math.max(wait, (1 - r) / request_rate) end
if token_rate > 0 then
  wait = math.max(wait, (math.min(tokens, token_size) - t) / token_rate)
end
local first = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
local behind = first and first ~= waiter
local full = places > 0 and redis.call('ZCARD', KEYS[2]) >= places
if behind or full or wait > 1e-6 then
  if not redis.call('ZSCORE', KEYS[3], waiter) then
    redis.call('ZADD', KEYS[3], redis.call('HINCRBY', KEYS[1], 'ticket', 1), waiter)
  end
  redis.call('ZADD', KEYS[4], now + patience, waiter)
  keep(r, t, hold - now)
  if behind or full then wait = math.max(wait, patience) end
  return string.format('%.6f', wait)
end

redis.call('ZREM', KEYS[3], waiter)
redis.call('ZREM', KEYS[4], waiter)
if places > 0 then redis.call('ZADD', KEYS[2], now + lease, place) end
if request_rate > 0 then r = r - 1 end
if token_rate > 0 then t = t - tokens end
keep(r, t, token_rate > 0 and -t / token_rate or 0)
wake_first(channel)
return 'go'
"""
)
"""``go``, with everything taken; or the seconds to wait, with nothing taken but a rank in line."""

END = (
    _BEGIN
    + """
local waiter, place, channel = ARGV[1], ARGV[2], ARGV[3]
local request_rate, request_size = tonumber(ARGV[4]), tonumber(ARGV[5])
local token_rate, token_size, back = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
redis.call('ZREM', KEYS[2], place)
if waiter ~= '' then
  redis.call('ZREM', KEYS[3], waiter)
  redis.call('ZREM', KEYS[4], waiter)
end
local t = math.min(token_size, filled(stored[3], token_rate, token_size) + back)
keep(filled(stored[2], request_rate, request_size), t,
  math.max(hold - now, token_rate > 0 and -t / token_rate or 0))
wake_first(channel)
return 1
"""
)
"""Lets go of a place, gives tokens back, and leaves the line where a waiter is named."""

HOLD = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local hold = math.max(tonumber(redis.call('HGET', KEYS[1], 'hold')) or 0, now + tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'hold', string.format('%.6f', hold))
redis.call('EXPIRE', KEYS[1], {_KEEP_SECONDS} + math.ceil(math.max(0, hold - now)))
return 1
"""
"""Nobody goes for so many seconds."""

RENEW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
for i = 2, #ARGV do redis.call('ZADD', KEYS[2], now + tonumber(ARGV[1]), ARGV[i]) end
return 1
"""
"""Keeps places, also those that a flush has forgotten."""

DROP = "return redis.call('ZREM', KEYS[2], unpack(ARGV))"
"""Frees places."""
