-- One step of a session's lock, in one turn of the Redis. The session's hash is touched only as PHP
-- itself does (HINCRBY lock 1, lock 0); all else stands in two keys beside it, which expire.
--
-- KEYS  session  its hash: lock, pid
--       line     who waits: a sorted set of tokens by their turns (microseconds when they came)
--       holder   a hash: owner (the token that has the lock), pid (the session's when it was taken, which
--                is another's until the owner signs; empty: it has), told (when it last said so), called and called_at (who was told that it is free, and when)
-- ARGV  step, what channels begin with, the own token (16 letters of its process, a colon, a number)
local session, line, holder = KEYS[1], KEYS[2], KEYS[3]
local step, channels, token = ARGV[1], ARGV[2], ARGV[3]

local LINE_MILLISECONDS = 60000
local HOLDER_MILLISECONDS = 3600000
-- Who was called and has not come by then is passed over: its process hangs.
local CALLED_MILLISECONDS = 250

local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- As digits: Lua would write large numbers with an exponent.
local function digits(number)
  return string.format('%.0f', number)
end

-- nil: it is no number.
local function locked()
  return tonumber(redis.call('HGET', session, 'lock') or '0')
end

local function pid()
  return redis.call('HGET', session, 'pid') or ''
end

local function channel(whose)
  return channels .. string.sub(whose, 1, 16)
end

-- False: its process is gone, for nobody hears it.
local function tell(word, whom)
  return redis.call('PUBLISH', channel(whom), word .. whom) > 0
end

-- Tells the first one of the line that it is its turn, and the one behind to see to it that it comes.
local function call(first, second)
  if not tell('w', first) then
    redis.call('ZREM', line, first)
    return false
  end
  redis.call('HSET', holder, 'called', first, 'called_at', digits(microseconds()))
  redis.call('PEXPIRE', holder, LINE_MILLISECONDS)
  if second then tell('n', second) end
  return true
end

local function call_next()
  while true do
    local waiting = redis.call('ZRANGE', line, 0, 1)
    if not waiting[1] or call(waiting[1], waiting[2]) then return end
  end
end

local function own(held_as)
  redis.call('DEL', holder)
  redis.call('HSET', holder, 'owner', token, 'pid', held_as, 'told', digits(microseconds()))
  redis.call('PEXPIRE', holder, HOLDER_MILLISECONDS)
end

-- May this one go, the lock being free? Passes over who is gone.
local function is_first(turn)
  while true do
    local first = redis.call('ZRANGE', line, 0, 1, 'WITHSCORES')
    if not first[1] or first[1] == token then return true end
    if turn > 0 and turn < tonumber(first[2]) then return true end
    local called = redis.call('HMGET', holder, 'called', 'called_at')
    if called[1] == first[1] then
      local since = microseconds() - tonumber(called[2])
      if since < CALLED_MILLISECONDS * 1000 then return false end
      redis.call('ZREM', line, first[1])
    elseif call(first[1], first[3]) then
      return false
    end
  end
end

-- The turn; nil: as many wait as may.
local function stand_in_line(turn, waiters_max)
  local known = redis.call('ZSCORE', line, token)
  if known then
    turn = tonumber(known)
  else
    if redis.call('ZCARD', line) >= waiters_max then return nil end
    if turn == 0 then
      local last = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')
      turn = math.max(microseconds(), tonumber(last[2] or 0) + 1)
    end
    redis.call('ZADD', line, digits(turn), token)
  end
  redis.call('PEXPIRE', line, LINE_MILLISECONDS)
  if redis.call('HGET', holder, 'called') == token then
    redis.call('HDEL', holder, 'called', 'called_at')
  end
  return turn
end

local function increment()
  redis.call('ZREM', line, token)
  local number = redis.call('HINCRBY', session, 'lock', 1)
  if number == 1 then own(pid()) end
  return {1, number}
end

-- Sets the lock free where owner and pid are still those that were seen.
local function free(owner, signed)
  local held = redis.call('HMGET', holder, 'owner', 'pid')
  local number = locked()
  local is_same = (held[1] or '') == owner and pid() == (signed or held[2] or '')
  if number and number > 0 and is_same then
    redis.call('HSET', session, 'lock', 0)
    redis.call('DEL', holder)
    call_next()
    return 1
  end
  if owner ~= '' and held[1] == owner then
    -- Somebody without a gateway has it: the first one in the line looks by itself from now on.
    redis.call('HDEL', holder, 'owner', 'pid', 'told')
    call_next()
  end
  return 0
end

-- ARGV[4] turn or 0, ARGV[5] how many may wait
if step == 'take' then
  local turn, number = tonumber(ARGV[4]), locked()
  if not number or number < 0 then return increment() end
  if number == 0 and is_first(turn) then return increment() end
  turn = stand_in_line(turn, tonumber(ARGV[5]))
  if not turn then return increment() end
  local held = redis.call('HMGET', holder, 'owner', 'told', 'pid')
  local owner, signed = held[1] or '', pid()
  local lives = owner ~= '' and redis.call('PUBSUB', 'NUMSUB', channel(owner))[2] > 0
  local is_signed = owner ~= '' and signed ~= (held[3] or '')
  return {
    0, digits(turn), owner, lives and 1 or 0, signed, number == 0 and 1 or 0, held[2] or '0',
    is_signed and 1 or 0,
  }
elseif step == 'now' then
  return increment()
elseif step == 'release' then
  local number = locked()
  if number == 0 then
    redis.call('DEL', holder)
    call_next()
  elseif redis.call('HGET', holder, 'owner') == token then
    redis.call('HDEL', holder, 'owner', 'pid', 'told')
    call_next()
  end
  return 0
elseif step == 'free' then
  -- ARGV[4] the owner or nothing; ARGV[5] the pid, where ARGV[6] says that it is known
  return free(ARGV[4], ARGV[6] == '1' and ARGV[5])
elseif step == 'leave' then
  if redis.call('HGET', holder, 'owner') == token then return free(token, false) end
  redis.call('ZREM', line, token)
  if locked() == 0 then call_next() end
  return 0
else
  -- own: ARGV[4] the pid; ARGV[5] is 1 where it was broken, and 0 where it is told again
  local number = locked()
  local owner = redis.call('HGET', holder, 'owner')
  local may = ARGV[5] == '1' or not owner or owner == token
  if number and number > 0 and pid() == ARGV[4] and may then own('') end
  return 0
end
