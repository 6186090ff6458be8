-- Takes one out of each of several accounts, or out of none of them.
--
-- KEYS: the accounts. Each is a list of when something was taken, in microseconds by the clock of this server, the
-- newest last.
-- ARGV: windows, each as a number and its microseconds: so many may be taken in such a time. The widest comes first, and
-- no list is longer than its number.
--
-- Returns 0, or the milliseconds after which something will be left.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local widest = tonumber(ARGV[2])
local wait = 0

for _, key in ipairs(KEYS) do
  local newest = tonumber(redis.call('LINDEX', key, -1))
  if newest and newest > now + widest then
    -- By the clock of a master before this one, which was far ahead.
    redis.call('DEL', key)
  end
  for at = 1, #ARGV, 2 do
    local taken = tonumber(redis.call('LINDEX', key, -tonumber(ARGV[at])))
    if taken then
      wait = math.max(wait, tonumber(ARGV[at + 1]) - math.max(now - taken, 0))
    end
  end
end
if wait > 0 then
  return math.ceil(wait / 1000)
end

for _, key in ipairs(KEYS) do
  -- Lua would write a number of so many digits with an exponent.
  redis.call('RPUSH', key, string.format('%.0f', now))
  redis.call('LTRIM', key, -tonumber(ARGV[1]), -1)
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(widest / 1000)))
end
return 0
