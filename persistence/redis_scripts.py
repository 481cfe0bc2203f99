"""Every Lua script of the Redis store: each is one atomic step, and each writing one first checks who owns the store.

Keys. All begin with `{prefix}:store`; the braces make the prefix the hash tag, so that on a Redis Cluster all keys live
in one slot and one script may touch them all. Only the ownership key is declared, the others are derived from it: they
depend on what is stored. `<c>` is a conversation id, which holds no slash.

    :owner              hash     format, epoch, mark, owner, since, commits, letters, rows, store_id, beats
    :lease              string   token of the owner, gone when it is silent for too long
    :state:<c>          hash     what a conversation is now, with its snapshot
    :journal:<c>        stream   its steps; the entry's id is the step's last sequence number
    :inbox:<c>          hash     message id -> accepted at, reply's sequence number, the rest
    :results:<c>/<r>    hash     node -> result of a request; :requests:<c> is the set of those requests
    :memory:<c>         hash     seq/role -> row, ordered by :said:<c> and :notes:<c>; :forgotten:<c> what is hidden
    :cache:<key>        zset     where reusable results are, by expiry; :cached all such keys, by latest expiry
    :unfinished         zset     by update
    :listed, :phase:<p> zset     by negated update, so that equal times come in the order of the ids; :phases counts
    :stale, :answered   zset     what cleanup looks at: conversations by update, answered messages by acceptance
    :letters            stream   dead letters; :letters_at  zset  their ids by time
    :operations, :metrics, :errors  zset  logs, by time, capped

A script that fails half-way is not rolled back, so the only failures left are those of a first write: arguments are
checked before they are sent, the kinds of the keys before they are written to, and the server refuses for lack of
memory, a failed disk or a replica before anything is written. What one conversation's keys hold can make no script fail
that serves others too. In the append-only file a script is one transaction.
"""

from __future__ import annotations

from typing import Final

_BASE: Final = """
local owner = KEYS[1]
local base = string.sub(owner, 1, -7)
"""

_KINDS: Final = """
local function wrong(key, kind)
    local is = redis.call('TYPE', key).ok
    if is ~= 'none' and is ~= kind then return key .. ' is a ' .. is .. ' in place of a ' .. kind end
end
local function whole_number(text) -- what was spoilt is read from its beginning: whoever asked compares it with the rest
    return text and #text < 16 and string.match(text, '^%d+$') and tonumber(text) or 0
end
"""

_GUARD: Final = (
    _BASE
    + _KINDS
    + """
local held_mark, held_commits = unpack(redis.call('HMGET', owner, 'mark', 'commits'))
if not held_mark then return {'missing'} end
if held_mark ~= ARGV[1] then return {'epoch', redis.call('HGET', owner, 'epoch')} end
if tonumber(held_commits) < tonumber(ARGV[2]) then return {'behind', held_commits} end
"""
)
"""ARGV: mark of this owner, number of the newest commit it was told of."""

OWN: Final = (
    _BASE
    + """
local lease, token = base .. ':lease', ARGV[1]
local format = redis.call('HGET', owner, 'format')
if format and tonumber(format) > tonumber(ARGV[5]) then return {'newer', format} end
local holder = redis.call('GET', lease)
if holder and holder ~= token then
    return {'owned', redis.call('HGET', owner, 'owner') or '?', tostring(redis.call('PTTL', lease))}
end
if not holder then
    local epoch = redis.call('HINCRBY', owner, 'epoch', 1)
    redis.call('HSET', owner, 'format', ARGV[5], 'mark', epoch .. ':' .. token, 'owner', ARGV[2], 'since', ARGV[3],
        'commits', '0')
    redis.call('HSETNX', owner, 'store_id', token)
    redis.call('SET', lease, token, 'PX', ARGV[4])
end
return {'ok', redis.call('HGET', owner, 'epoch')}
"""
)
"""ARGV: token, owner's name, now, lease in ms, format. The same token twice is the same owner asking again."""

RENEW: Final = (
    _GUARD
    + """
redis.call('SET', base .. ':lease', ARGV[3], 'PX', ARGV[4])
return {'ok'}
"""
)
"""A lease that ran out is taken again as long as nobody else became the owner meanwhile."""

BEAT: Final = (
    _GUARD
    + """
redis.call('HINCRBY', owner, 'beats', 1)
return {'ok'}
"""
)

RELEASE: Final = (
    _GUARD
    + """
redis.call('DEL', base .. ':lease')
return {'ok'}
"""
)

COMMIT: Final = (
    _GUARD
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

DROP_LETTER: Final = (
    _GUARD
    + """
redis.call('ZREM', base .. ':letters_at', ARGV[3])
return {'ok', redis.call('XDEL', base .. ':letters', ARGV[3] .. '-0')}
"""
)

COUNT_RECOVERIES: Final = (
    _GUARD
    + """
local answer = {'ok'}
for _, c in ipairs(redis.call('ZRANGE', base .. ':unfinished', 0, -1)) do
    local state, counted = base .. ':state:' .. c, 1
    if not wrong(state, 'hash') then
        counted = whole_number(redis.call('HGET', state, 'recoveries')) + 1
        redis.call('HSET', state, 'recoveries', string.format('%.0f', counted))
    end
    answer[#answer + 1] = c
    answer[#answer + 1] = counted
end
return answer
"""
)

CLEANUP: Final = (
    _GUARD
    + """
local now, journal_at, logs_at, inbox_at, most = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local messages, steps, results, logs = 0, 0, 0, {}

local function old(name, before, count)
    return redis.call('ZRANGEBYSCORE', base .. ':' .. name, '-inf', '(' .. before, 'LIMIT', 0, count)
end

for _, member in ipairs(old('answered', inbox_at, most)) do
    local slash = string.find(member, '/', 1, true) or 1
    local inbox = base .. ':inbox:' .. string.sub(member, 1, slash - 1)
    if not wrong(inbox, 'hash') then messages = messages + redis.call('HDEL', inbox, string.sub(member, slash + 1)) end
    redis.call('ZREM', base .. ':answered', member)
end
-- Once looked at, a conversation is out of the index until its next step: only a step makes anything of it deletable.
local looked = old('stale', journal_at, ARGV[8])
for _, c in ipairs(looked) do
    local state, journal, requests = base .. ':state:' .. c, base .. ':journal:' .. c, base .. ':requests:' .. c
    if not (wrong(state, 'hash') or wrong(journal, 'stream') or wrong(requests, 'set')) then
        local open_seq, snapshot_seq, last_seq = unpack(redis.call('HMGET', state, 'open_seq', 'snapshot_seq',
            'last_seq'))
        local kept_from = whole_number(snapshot_seq)
        if open_seq == '' and kept_from <= whole_number(last_seq) then -- else one of them was spoilt: all is needed
            steps = steps + redis.call('XTRIM', journal, 'MINID', kept_from + 1)
            for _, request in ipairs(redis.call('SMEMBERS', requests)) do
                local done = base .. ':results:' .. c .. '/' .. request
                if not wrong(done, 'hash') then results = results + redis.call('HLEN', done) end
                redis.call('UNLINK', done)
            end
            redis.call('UNLINK', requests)
        end
    end
    redis.call('ZREM', base .. ':stale', c)
end
for i, name in ipairs({'operations', 'metrics', 'errors'}) do
    local gone = old(name, logs_at, most)
    for _, member in ipairs(gone) do redis.call('ZREM', base .. ':' .. name, member) end
    logs[i] = #gone
end
local letters = old('letters_at', logs_at, most)
for _, id in ipairs(letters) do
    redis.call('XDEL', base .. ':letters', id .. '-0')
    redis.call('ZREM', base .. ':letters_at', id)
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', base .. ':cached', '-inf', now, 'LIMIT', 0, most)) do
    redis.call('UNLINK', base .. ':cache:' .. key)
    redis.call('ZREM', base .. ':cached', key)
end
return {'ok', messages, steps, results, logs[1], logs[2], logs[3], #letters, #looked}
"""
)
"""ARGV: guard, now, limits in ms, most rows of each kind, most conversations; bounded: a commit never waits long."""

_FETCH: Final = """
local function fetch(c, fields)
    local rows, some = {}, {}
    for i, field in ipairs(fields) do
        some[#some + 1] = field
        if #some == 500 or i == #fields then
            for _, row in ipairs(redis.call('HMGET', base .. ':memory:' .. c, unpack(some))) do
                if row then rows[#rows + 1] = row end
            end
            some = {}
        end
    end
    return rows
end
"""

_STORED: Final = """
local names = {'state', 'journal', 'inbox', 'requests', 'memory', 'said', 'notes', 'forgotten'}
local kinds = {'hash', 'stream', 'hash', 'set', 'hash', 'zset', 'zset', 'hash'}
local function stored(c)
    local keys = {}
    for i, name in ipairs(names) do keys[i] = base .. ':' .. name .. ':' .. c end
    return redis.call('EXISTS', unpack(keys)) > 0
end
"""

KNOWN: Final = (
    _BASE
    + _STORED
    + """
local known = {}
for i, c in ipairs(ARGV) do known[i] = stored(c) and 1 or 0 end
return known
"""
)
"""ARGV: conversations. 0 for each that nothing is stored of: no key that `LOAD` looks at."""

LOAD: Final = (
    _BASE
    + _KINDS
    + _STORED
    + _FETCH
    + """
local c, recent = ARGV[1], ARGV[2]
if not stored(c) then return {} end
local damaged, bad = '', {}
for i, name in ipairs(names) do
    local is, kind = redis.call('TYPE', base .. ':' .. name .. ':' .. c).ok, kinds[i]
    if is ~= 'none' and is ~= kind then
        bad[name] = true
        damaged = name .. ' is a ' .. is .. ' in place of a ' .. kind
    end
end
if bad.state then return {'its row is a ' .. redis.call('TYPE', base .. ':state:' .. c).ok} end
local state = redis.call('HMGET', base .. ':state:' .. c, 'last_seq', 'snapshot', 'snapshot_seq', 'open_seq',
    'open_requests', 'phase')
if not state[1] then return {'last_seq is missing, but there is more of the conversation'} end
local results = {}
local readable, requests = pcall(cjson.decode, state[5])
if ARGV[3] == '1' and not (readable and type(requests) == 'table') then -- the inbox knows them too
    readable, requests = true, {}
    for _, row in ipairs(bad.inbox and {} or redis.call('HVALS', base .. ':inbox:' .. c)) do
        local rest = string.match(row, '^%S+  (.*)$')
        local known, message = pcall(cjson.decode, rest)
        if known and type(message) == 'table' then requests[#requests + 1] = message[2] end
    end
end
if readable and type(requests) == 'table' then
    for i, request in ipairs(requests) do
        local done = base .. ':results:' .. c .. '/' .. tostring(request)
        local other = wrong(done, 'hash')
        damaged = other or damaged
        results[i] = other and {} or redis.call('HVALS', done)
    end
end
local entries, from = {}, 1
if ARGV[3] == '0' then from = whole_number(state[3]) + 1 end
if not bad.journal then entries = redis.call('XRANGE', base .. ':journal:' .. c, from, '+') end
local memory, forgotten = {}, {}
if not (bad.notes or bad.said or bad.memory or bad.forgotten) then
    local fields = redis.call('ZREVRANGE', base .. ':notes:' .. c, 0, 0)
    local condensed = fields[1] and string.match(fields[1], '^%d+') or '0'
    local said, first = base .. ':said:' .. c, whole_number(state[1]) + 1
    for _, field in ipairs(redis.call('ZREVRANGEBYSCORE', said, '+inf', '(' .. condensed, 'LIMIT', 0, recent)) do
        fields[#fields + 1] = field
        first = whole_number(string.match(field, '^%d+'))
    end
    if state[4] ~= '' then
        for _, field in ipairs(redis.call('ZRANGEBYSCORE', said, whole_number(state[4]), '(' .. first)) do
            fields[#fields + 1] = field
        end
    end
    memory, forgotten = fetch(c, fields), redis.call('HGETALL', base .. ':forgotten:' .. c)
end
return {state[1], state[2], state[3], entries, results, memory, forgotten, state[6], state[5], damaged}
"""
)
"""ARGV: conversation, how many remarks, 1 for the whole journal. As of one moment.

One string alone says why not even the place of the conversation is known.
"""

MEMORY: Final = (
    _BASE
    + _FETCH
    + """
local c = ARGV[1]
local fields = redis.call('ZRANGEBYSCORE', base .. ':said:' .. c, ARGV[2], ARGV[3])
for _, field in ipairs(redis.call('ZRANGEBYSCORE', base .. ':notes:' .. c, ARGV[2], ARGV[3])) do
    fields[#fields + 1] = field
end
return {fetch(c, fields), redis.call('HGETALL', base .. ':forgotten:' .. c)}
"""
)

LISTED: Final = (
    _BASE
    + _KINDS
    + """
local rows = {}
local found = redis.call('ZRANGEBYSCORE', base .. ARGV[1], ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #found, 2 do
    local state, row = base .. ':state:' .. found[i], {false, false, false, false, false}
    if not wrong(state, 'hash') then
        row = redis.call('HMGET', state, 'phase', 'last_seq', 'unfinished', 'user_id', 'created_at')
    end
    table.insert(row, 1, found[i])
    row[7] = string.format('%.0f', -tonumber(found[i + 1])) -- the index's own: from it the next page goes on
    rows[#rows + 1] = row
end
return rows
"""
)
"""ARGV: index, from which score, how many."""

CACHED: Final = (
    _BASE
    + """
for _, member in ipairs(redis.call('ZREVRANGEBYSCORE', base .. ':cache:' .. ARGV[1], '+inf', '(' .. ARGV[2])) do
    local c, request, node = unpack(cjson.decode(member))
    local body = redis.call('HGET', base .. ':results:' .. c .. '/' .. request, node)
    if body then
        local head = cjson.decode(string.match(body, '^[^\\n]*'))
        if head[7] == ARGV[1] and head[8] ~= cjson.null and head[8] > tonumber(ARGV[2]) then return body end
    end
end
return false
"""
)
"""ARGV: cache key, now. A place whose result was replaced or deleted since is passed over."""
