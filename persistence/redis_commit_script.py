"""The Lua script that commits a batch of steps to Redis; see `redis_scripts.py` for the keys."""

from __future__ import annotations

from typing import Final

from persistence.redis_scripts import GUARD

COMMIT: Final = (
    GUARD
    + """
local number, place = ARGV[3], 3
local function take() place = place + 1; return ARGV[place] end
local function take_all(width)
    local rows = {}
    for i = 1, tonumber(take()) do
        local row = {}
        for j = 1, width do row[j] = take() end
        rows[i] = row
    end
    return rows
end
local function need(name, kind) -- all need it: nothing was written, and a person must see to it
    local bad = wrong(base .. ':' .. name, kind)
    if bad then error(bad) end
end
for _, name in ipairs({'listed', 'stale', 'unfinished', 'answered', 'cached', 'operations', 'metrics', 'errors',
    'letters_at'}) do
    need(name, 'zset')
end
need('letters', 'stream')
need('phases', 'hash')
redis.call('HSET', owner, 'commits', number)

local function bury(at, letter)
    local key, id = base .. ':letters', whole_number(redis.call('HGET', owner, 'letters')) + 1
    local added = redis.pcall('XADD', key, string.format('%.0f-0', id), 'letter', letter)
    if type(added) == 'table' and added.err then -- the count was lost or spoilt: the stream knows it too
        local told = redis.call('XINFO', 'STREAM', key)
        for i = 1, #told, 2 do
            if told[i] == 'last-generated-id' then id = whole_number(string.match(told[i + 1], '^%d+')) + 1 end
        end
        redis.call('XADD', key, string.format('%.0f-0', id), 'letter', letter)
    end
    redis.call('HSET', owner, 'letters', string.format('%.0f', id))
    redis.call('ZADD', base .. ':letters_at', at, string.format('%.0f', id))
end

-- Many rows are a few commands: each command costs the server more than what it writes.
local function log(rows, first, last)
    local n, members = redis.call('HINCRBY', owner, 'rows', (last - first) / 3) - (last - first) / 3, {}
    local before = n
    for i = first, last - 1, 3 do
        local name = rows[i]
        local some = members[name]
        if not some then
            some = {base .. ':' .. name}
            members[name] = some
        end
        n = n + 1
        some[#some + 1] = rows[i + 1]
        some[#some + 1] = n .. ' ' .. rows[i + 2]
        if #some > 2000 then
            redis.call('ZADD', unpack(some))
            members[name] = nil
        end
    end
    for _, some in pairs(members) do redis.call('ZADD', unpack(some)) end
    if math.floor(n / 1000) > math.floor(before / 1000) then
        for _, each in ipairs({'operations', 'metrics', 'errors'}) do
            redis.call('ZREMRANGEBYRANK', base .. ':' .. each, 0, -100001)
        end
    end
end

local moved, phase_checked = {}, {}
local function count_phases() -- once for all steps of the commit
    for phase, by in pairs(moved) do
        local number = by ~= 0 and (tonumber(redis.call('HGET', base .. ':phases', phase)) or 0) + by
        if number and number > 0 then
            redis.call('HSET', base .. ':phases', phase, string.format('%.0f', number))
        elseif number then
            redis.call('HDEL', base .. ':phases', phase)
        end
    end
end

local function wrong_phase(phase)
    if phase_checked[phase] then return end
    local bad = wrong(base .. ':phase:' .. phase, 'zset')
    phase_checked[phase] = not bad
    return bad
end

local function index(c, phase, old_phase, unfinished, at)
    local turned = -tonumber(at)
    redis.call('ZADD', base .. ':listed', turned, c)
    redis.call('ZADD', base .. ':stale', at, c)
    if old_phase ~= phase then
        if old_phase then
            redis.call('ZREM', base .. ':phase:' .. old_phase, c)
            moved[old_phase] = (moved[old_phase] or 0) - 1
        end
        moved[phase] = (moved[phase] or 0) + 1
    end
    redis.call('ZADD', base .. ':phase:' .. phase, turned, c)
    if unfinished == '1' then
        redis.call('ZADD', base .. ':unfinished', at, c)
    else
        redis.call('ZREM', base .. ':unfinished', c)
    end
end

local function apply()
    local c, expected, first, last, at, entry = take(), take(), take(), take(), take(), take()
    local phase, unfinished, open_seq, open_requests = take(), take(), take(), take()
    local progress, users, snapshots = take(), take_all(1), take_all(1)
    local inbox, replied, results = take_all(2), take_all(2), take_all(5)
    local memory, forget, errors = take_all(4), take_all(1), take_all(2)

    local state, journal = base .. ':state:' .. c, base .. ':journal:' .. c
    local bad = wrong(state, 'hash') or wrong(journal, 'stream')
    if #inbox + #replied > 0 then bad = bad or wrong(base .. ':inbox:' .. c, 'hash') end
    if #results > 0 then bad = bad or wrong(base .. ':requests:' .. c, 'set') end
    for i, row in ipairs(results) do
        if i == 1 or row[1] ~= results[i - 1][1] then
            bad = bad or wrong(base .. ':results:' .. c .. '/' .. row[1], 'hash')
        end
        if row[5] ~= '' then bad = bad or wrong(base .. ':cache:' .. row[4], 'zset') end
    end
    if #memory > 0 then bad = bad or wrong(base .. ':memory:' .. c, 'hash') end
    for _, row in ipairs(memory) do bad = bad or wrong(base .. ':' .. row[1] .. ':' .. c, 'zset') end
    if #forget > 0 then bad = bad or wrong(base .. ':forgotten:' .. c, 'hash') end
    if bad then return 'wrong ' .. bad end

    local newest, old_phase = unpack(redis.call('HMGET', state, 'last_seq', 'phase'))
    if not newest and redis.call('EXISTS', state, journal, base .. ':inbox:' .. c, base .. ':memory:' .. c) > 0 then
        return 'wrong ' .. state .. ' has no last_seq, but there is more of the conversation'
    end
    if (newest or '0') ~= expected then
        local same = redis.call('XRANGE', journal, last, last, 'COUNT', 1)[1]
        if same and same[2][2] == first and same[2][4] == at and same[2][6] == entry then return '' end
        return newest or '0'
    end

    local of_phase = wrong_phase(phase) or (old_phase and wrong_phase(old_phase))
    if of_phase then
        count_phases() -- of the steps before, which stay
        error(of_phase) -- others need it: as above
    end
    -- The first write of the step: the one that can be refused, when the journal is further on than the state says.
    local added = redis.pcall('XADD', journal, last .. '-0', 'first', first, 'at', at, 'body', entry)
    if type(added) == 'table' and added.err then return 'wrong ' .. journal .. ': ' .. added.err end
    local now = {'phase', phase, 'last_seq', last, 'unfinished', unfinished, 'open_seq', open_seq, 'open_requests',
        open_requests, 'updated_at', at}
    local function set(field, value)
        now[#now + 1] = field
        now[#now + 1] = value
    end
    if not newest then
        set('created_at', at)
        set('snapshot_seq', '0')
    end
    for _, row in ipairs(users) do set('user_id', row[1]) end
    for _, row in ipairs(snapshots) do
        set('snapshot', row[1])
        set('snapshot_seq', last)
    end
    if progress == '1' or not newest then set('recoveries', '0') end
    redis.call('HSET', state, unpack(now))
    index(c, phase, old_phase, unfinished, at)

    for _, row in ipairs(inbox) do
        redis.call('HSET', base .. ':inbox:' .. c, row[1], at .. '  ' .. row[2])
        redis.call('ZREM', base .. ':answered', c .. '/' .. row[1])
    end
    for _, row in ipairs(replied) do
        local held = redis.call('HGET', base .. ':inbox:' .. c, row[1])
        if held then
            local accepted, _, rest = string.match(held, '^(%-?%d+) (%d*) (.*)$')
            if accepted then -- else it was spoilt, and stays as it is for whoever looks it up
                redis.call('HSET', base .. ':inbox:' .. c, row[1], accepted .. ' ' .. row[2] .. ' ' .. rest)
                redis.call('ZADD', base .. ':answered', accepted, c .. '/' .. row[1])
            end
        end
    end
    for i, row in ipairs(results) do
        local request, node, body, cached, expires = unpack(row)
        redis.call('HSET', base .. ':results:' .. c .. '/' .. request, node, body)
        if i == 1 or request ~= results[i - 1][1] then redis.call('SADD', base .. ':requests:' .. c, request) end
        if expires ~= '' then
            redis.call('ZADD', base .. ':cache:' .. cached, expires, cjson.encode({c, request, node}))
            redis.call('ZADD', base .. ':cached', 'GT', expires, cached)
        end
    end
    for _, row in ipairs(memory) do
        local order, seq, role, body = unpack(row)
        redis.call('ZADD', base .. ':' .. order .. ':' .. c, seq, seq .. '/' .. role)
        redis.call('HSET', base .. ':memory:' .. c, seq .. '/' .. role, body)
    end
    for _, row in ipairs(forget) do redis.call('HSET', base .. ':forgotten:' .. c, row[1], last) end
    for _, row in ipairs(errors) do log({'errors', row[1], row[2]}, 1, 4) end
    return ''
end

local rows = 3 * tonumber(take())
local first_row = place + 1
place = place + rows
local letters = take_all(2)
if tonumber(held_commits) < tonumber(number) then
    for _, row in ipairs(letters) do bury(row[1], row[2]) end
    if rows > 0 then log(ARGV, first_row, first_row + rows) end
end
local answer = {'ok'}
for i = 1, tonumber(take()) do answer[i + 1] = apply() end
count_phases()
return answer
"""
)
"""ARGV: guard, number of this commit, rows, appends (see `redis_rows.py`). The same number writes no row twice."""
