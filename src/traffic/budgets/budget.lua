-- Takes something out of each account of several claims, or out of none where one of them refuses: who is refused has spent
-- nothing.
--
-- KEYS: the accounts, claim by claim. Each is a list of when something was taken, in microseconds by the clock of this
-- server, the newest last.
-- ARGV: for each claim how many accounts it has, 1 where it refuses when too little is left (else it is left out alone), how
-- much it takes, how many windows it has, and those, each as a number and its microseconds: so many may be taken in such a time. The widest
-- comes first, and no list is longer than its number.
--
-- Returns for each claim 0, or the milliseconds after which something will be left in all of its accounts.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local claims, is_refused = {}, false
local at, key = 1, 1

while at <= #ARGV do
  local claim = {first = key, last = key + ARGV[at] - 1, count = tonumber(ARGV[at + 2]), most = ARGV[at + 4], widest = tonumber(ARGV[at + 5]), wait = 0}
  local windows = at + 4 + 2 * ARGV[at + 3]
  for account = claim.first, claim.last do
    local newest = tonumber(redis.call('LINDEX', KEYS[account], -1))
    if newest and newest > now + claim.widest then
      -- By the clock of a master before this one, which was far ahead.
      redis.call('DEL', KEYS[account])
    end
    for window = at + 4, windows - 1, 2 do
      local left = tonumber(ARGV[window]) - claim.count
      local taken = left >= 0 and tonumber(redis.call('LINDEX', KEYS[account], -left - 1))
      if left < 0 then
        -- It never holds so much.
        claim.wait = math.max(claim.wait, tonumber(ARGV[window + 1]))
      elseif taken then
        claim.wait = math.max(claim.wait, tonumber(ARGV[window + 1]) - math.max(now - taken, 0))
      end
    end
  end
  is_refused = is_refused or (claim.wait > 0 and ARGV[at + 1] == '1')
  claims[#claims + 1] = claim
  key, at = claim.last + 1, windows
end

local waits = {}
for number, claim in ipairs(claims) do
  waits[number] = math.ceil(claim.wait / 1000)
  if claim.wait <= 0 and not is_refused then
    for account = claim.first, claim.last do
      -- Lua would write a number of so many digits with an exponent.
      for _ = 1, claim.count do
        redis.call('RPUSH', KEYS[account], string.format('%.0f', now))
      end
      redis.call('LTRIM', KEYS[account], -tonumber(claim.most), -1)
      redis.call('PEXPIRE', KEYS[account], string.format('%.0f', math.ceil(claim.widest / 1000)))
    end
  end
end
return waits
