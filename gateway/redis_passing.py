"""Appends events to their logs and publishes them: a batch in one command.

A command for each would cost the daemon a third of what a request costs altogether: each is put together, sent, and its
answer read (docs/performance.md). The server makes a script durable as one, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis

from messages.events import Event, public_json
from persistence.redis_wire import evaluate

BATCH_BYTES: Final = 1 << 20
"""Bytes of events in one command, about."""

# What fails is told by its place, and keeps nothing else from being done.
_ON_THE_SERVER: Final = """
local prefix, length, keep = ARGV[1], ARGV[2], ARGV[3]
local failed, logs = {}, {}
for i = 4, #ARGV, 3 do
    local conversation, seq, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if seq ~= '0' then
        local log = prefix .. ':log:' .. conversation
        local added = redis.pcall('XADD', log, 'MAXLEN', '~', length, seq .. '-0', 'event', body)
        if type(added) == 'table' and added.err then
            failed[#failed + 1] = {(i - 4) / 3, 1, added.err}
        else
            logs[log] = true
        end
    end
    local told = redis.pcall('PUBLISH', prefix .. ':events:' .. conversation, body)
    if type(told) == 'table' and told.err then failed[#failed + 1] = {(i - 4) / 3, 0, told.err} end
end
for log in pairs(logs) do
    local kept = redis.pcall('PEXPIRE', log, keep)
    if type(kept) == 'table' and kept.err then failed[#failed + 1] = {-1, 0, kept.err} end
end
return failed
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """What the server did not do."""

    event: Event | None
    """Of which event; None: a log's time to live was not set."""
    logged: bool
    """Whether it was to be logged; else it was to be published."""
    reason: str


def pass_on(
    client: Redis, events: Sequence[Event], *, prefix: str, length: int, keep_ms: int
) -> tuple[int, list[Failure]]:
    """Log and publish as many of the first events as fit into a command; return how many, and what failed of it.

    Events without a sequence number are published only. Raises what the driver raises.
    """
    arguments: list[Any] = [prefix, length, keep_ms]
    size = count = 0
    for event in events:
        body = public_json(event)
        arguments += (event.conversation_id, event.seq, body)
        count, size = count + 1, size + len(body)
        if size >= BATCH_BYTES:
            break
    connection = client.connection_pool.get_connection()
    try:
        answer: Any = evaluate(connection, _ON_THE_SERVER, (), arguments)
    finally:
        client.connection_pool.release(connection)
    failures = [
        Failure(events[place] if place >= 0 else None, bool(logged), _WHERE.sub("", reason.decode("utf-8", "replace")))
        for place, logged, reason in answer
    ]
    return count, failures


_WHERE: Final = re.compile(r"^@user_script: \d+: -?")
"""Which line of the script it was, that some servers put before the reason."""
