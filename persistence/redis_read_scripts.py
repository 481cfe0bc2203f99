"""The Lua scripts that read from the Redis store; see `redis_scripts.py` for the keys."""

from __future__ import annotations

from typing import Final

from persistence.redis_scripts import BASE, KINDS

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
    BASE
    + _STORED
    + """
local known = {}
for i, c in ipairs(ARGV) do known[i] = stored(c) and 1 or 0 end
return known
"""
)
"""ARGV: conversations. 0 for each that nothing is stored of: no key that `LOAD` looks at."""

LOAD: Final = (
    BASE
    + KINDS
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
    BASE
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

SAID: Final = (
    BASE
    + _FETCH
    + """
local c, wanted = ARGV[1], tonumber(ARGV[4])
local rows, passed = {}, 0
repeat -- a place whose row is gone must not make a page look like the last one
    local left = wanted - #rows
    local fields = redis.call('ZRANGEBYSCORE', base .. ':said:' .. c, ARGV[2], ARGV[3], 'LIMIT', passed, left)
    passed = passed + #fields
    for _, row in ipairs(fetch(c, fields)) do rows[#rows + 1] = row end
until #fields < left or #rows == wanted
return {rows, redis.call('HGETALL', base .. ':forgotten:' .. c)}
"""
)
"""ARGV: conversation, first and last place, how many."""

LISTED: Final = (
    BASE
    + KINDS
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
    BASE
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
