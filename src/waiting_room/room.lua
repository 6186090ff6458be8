-- The waiting room of a fleet: the rules of `line.rs`, in one place for all nodes.
-- KEYS: state, waiting (by number), seen (by time), inside (by end), back (who came back with the ticket), the switch.
-- ARGV: what, the epoch of a new line, the time in ms (0: by this server's clock), visitors_max, hold, idle, absent,
-- waiting_max (times in ms), and what each needs. Numbers are below 2^53, but for epochs, which are texts.
local state, waiting, seen, inside, back, switch = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local what, now = ARGV[1], tonumber(ARGV[3])
if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local visitors_max, hold, idle = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local absent, waiting_max = tonumber(ARGV[7]), tonumber(ARGV[8])
redis.call('HSETNX', state, 'epoch', ARGV[2])
local epoch = redis.call('HGET', state, 'epoch')

local function text(number) return string.format('%.0f', number) end
local function see(number, is_back)
    if redis.call('ZCARD', waiting) >= waiting_max and not redis.call('ZSCORE', waiting, number) then return end
    redis.call('ZADD', waiting, number, number)
    redis.call('ZADD', seen, text(now), number)
    if is_back then redis.call('SADD', back, number) end
end
-- A place inside is kept up to then, or longer if it was.
local function keep(ticket, stop)
    local before = redis.call('ZSCORE', inside, ticket)
    if not before or tonumber(before) < stop then redis.call('ZADD', inside, text(stop), ticket) end
end
local function finish()
    redis.call('ZREMRANGEBYSCORE', inside, '-inf', text(now))
    local left = redis.call('ZRANGEBYSCORE', seen, '-inf', '(' .. text(now - absent), 'LIMIT', 0, 1000)
    if #left > 0 then
        redis.call('ZREM', seen, unpack(left))
        redis.call('ZREM', waiting, unpack(left))
        redis.call('SREM', back, unpack(left))
    end
end
local function room()
    if visitors_max == 0 then return 9007199254740991 end
    return math.max(visitors_max - redis.call('ZCARD', inside), 0)
end

local answer
if what == 'draw' then
    finish()
    local length = redis.call('ZCARD', waiting)
    local is_free = ARGV[9] == '1' and length == 0 and room() > 0
    if not is_free and length >= waiting_max then
        answer = { epoch, '0', '0' }
    else
        local number = redis.call('HINCRBY', state, 'drawn', 1)
        if is_free then
            local serving = tonumber(redis.call('HGET', state, 'serving') or '0')
            redis.call('HSET', state, 'serving', text(math.max(serving, number)))
            redis.call('HINCRBY', state, 'granted', 1)
            keep(epoch .. '.' .. text(number), now + absent)
        else
            see(text(number), false)
        end
        answer = { epoch, text(number), is_free and '1' or '0' }
    end
elseif what == 'enter' then
    finish()
    local ticket = ARGV[9] .. '.' .. ARGV[10]
    if redis.call('ZSCORE', inside, ticket) then
        keep(ticket, now + idle)
        answer = 'inside'
    elseif ARGV[9] == epoch then
        see(ARGV[10], true)
        answer = 'waits'
    else
        answer = 'foreign'
    end
else
    -- A step: grants, for how long it counts that PHP has too much to do, the number of those who stayed, they, the line of who was
    -- seen, and they.
    local grants, busy, stayed = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
    for at = 12, 11 + stayed do keep(ARGV[at], now + idle) end
    if ARGV[12 + stayed] == epoch then
        for at = 13 + stayed, #ARGV do
            if not redis.call('ZSCORE', inside, epoch .. '.' .. ARGV[at]) then see(ARGV[at], true) end
        end
    end
    finish()
    grants = math.min(grants, room())
    local taken = 0
    if grants > 0 then
        local next = redis.call('ZRANGE', waiting, 0, grants - 1)
        for _, number in ipairs(next) do
            local is_back = redis.call('SREM', back, number) == 1
            keep(epoch .. '.' .. number, now + (is_back and hold or math.min(hold, absent)))
            redis.call('ZREM', waiting, number)
            redis.call('ZREM', seen, number)
        end
        taken = #next
        if taken > 0 then
            local serving = tonumber(redis.call('HGET', state, 'serving') or '0')
            redis.call('HSET', state, 'serving', text(math.max(serving, tonumber(next[taken]))))
            redis.call('HINCRBY', state, 'granted', taken)
        end
    end
    if busy > 0 then redis.call('HSET', state, 'busy_until', text(now + busy)) end
    local length = redis.call('ZCARD', waiting)
    local marks = {}
    if length > 0 then
        for mark = 0, 16 do
            local rank = math.floor((length - 1) * mark / 16)
            marks[#marks + 1] = redis.call('ZRANGE', waiting, rank, rank)[1]
        end
    end
    local values = redis.call('HMGET', state, 'drawn', 'serving', 'granted', 'busy_until')
    local busy_left = math.max(tonumber(values[4] or '0') - now, 0)
    answer = { epoch, values[1] or '0', values[2] or '0', values[3] or '0', text(length), text(redis.call('ZCARD', inside)),
        text(busy_left), redis.call('GET', switch) or '', taken, unpack(marks) }
end
-- A line that nobody has looked at for a day is over; what was switched by hand stays.
for _, key in ipairs({ state, waiting, seen, inside, back }) do redis.call('PEXPIRE', key, 86400000) end
return answer
