"""The Lua scripts of the Redis store: each is one atomic step, and each writing one first checks who owns the store.

Here are those of the ownership and the upkeep; `redis_commit_script.py` has the one that writes,
`redis_read_scripts.py` those that read.

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
    :once               string   token and answer of the newest script that must not be carried out twice
    :letters            stream   dead letters; :letters_at  zset  their ids by time
    :operations, :metrics, :errors  zset  logs, by time, capped

A script that fails half-way is not rolled back, so the only failures left are those of a first write: arguments are
checked before they are sent, the kinds of the keys before they are written to, and the server refuses for lack of
memory, a failed disk or a replica before anything is written. What one conversation's keys hold can make no script fail
that serves others too. In the append-only file a script is one transaction.
"""

from __future__ import annotations

from typing import Final

BASE: Final = """
local owner = KEYS[1]
local base = string.sub(owner, 1, -7)
"""

KINDS: Final = """
local function wrong(key, kind)
    local is = redis.call('TYPE', key).ok
    if is ~= 'none' and is ~= kind then return key .. ' is a ' .. is .. ' in place of a ' .. kind end
end
local function whole_number(text) -- what was spoilt is read from its beginning: whoever asked compares it with the rest
    return text and #text < 16 and string.match(text, '^%d+$') and tonumber(text) or 0
end
"""

GUARD: Final = (
    BASE
    + KINDS
    + """
local held_mark, held_commits = unpack(redis.call('HMGET', owner, 'mark', 'commits'))
if not held_mark then return {'missing'} end
if held_mark ~= ARGV[1] then return {'epoch', redis.call('HGET', owner, 'epoch')} end
if tonumber(held_commits) < tonumber(ARGV[2]) then return {'behind', held_commits} end
"""
)
"""ARGV: mark of this owner, number of the newest commit it was told of."""

ONCE: Final = (
    GUARD
    + """
local once, token = base .. ':once', ARGV[3]
if wrong(once, 'string') then redis.call('DEL', once) end
local before = redis.call('GET', once)
if before and string.sub(before, 1, #token) == token then return cmsgpack.unpack(string.sub(before, #token + 1)) end
local function done(answer)
    -- A full server refuses this alone: then nothing was written that would matter twice, or it frees what it can.
    redis.pcall('SET', once, token .. cmsgpack.pack(answer), 'PX', 60000)
    return answer
end
"""
)
"""ARGV: guard, token of the call. One that is sent again, because its connection broke, is answered as it was."""

OWN: Final = (
    BASE
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
    GUARD
    + """
redis.call('SET', base .. ':lease', ARGV[3], 'PX', ARGV[4])
return {'ok'}
"""
)
"""A lease that ran out is taken again as long as nobody else became the owner meanwhile."""

BEAT: Final = (
    ONCE
    + """
redis.call('HINCRBY', owner, 'beats', 1)
return done({'ok'})
"""
)

RELEASE: Final = (
    GUARD
    + """
redis.call('DEL', base .. ':lease')
return {'ok'}
"""
)

DROP_LETTER: Final = (
    ONCE
    + """
redis.call('ZREM', base .. ':letters_at', ARGV[4])
return done({'ok', redis.call('XDEL', base .. ':letters', ARGV[4] .. '-0')})
"""
)

COUNT_RECOVERIES: Final = (
    ONCE
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
return done(answer)
"""
)

SHIFT_RECOVERIES: Final = (
    ONCE
    + """
local by, meant = tonumber(ARGV[4]), ARGV[5] == 'these' and {}
for number = 6, #ARGV do meant[ARGV[number]] = true end
for _, c in ipairs(redis.call('ZRANGE', base .. ':unfinished', 0, -1)) do
    local state = base .. ':state:' .. c
    if (not meant or meant[c]) and not wrong(state, 'hash') then
        local counted = math.max(0, whole_number(redis.call('HGET', state, 'recoveries')) + by)
        redis.call('HSET', state, 'recoveries', string.format('%.0f', counted))
    end
end
return done({'ok'})
"""
)
"""ARGV: once, by how much, 'all', or 'these' and their ids."""

CLEANUP: Final = (
    ONCE
    + """
local now, journal_at, logs_at, inbox_at, most = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
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
local looked = old('stale', journal_at, ARGV[9])
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
return done({'ok', messages, steps, results, logs[1], logs[2], logs[3], #letters, #looked})
"""
)
"""ARGV: guard, token, now, limits in ms, most rows of a kind, most conversations: no commit waits long."""
