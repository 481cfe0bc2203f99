"""The commands on the inbox stream and its group, as few and as plain as an ACL can allow."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

CONSUMER = "daemon"
"""One name for all daemons: the store lets only one at a time take messages, and none leaves a consumer behind."""
_LOOK_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """One entry that was delivered and is not acknowledged."""

    id: str
    deliveries: int


class InboxStream:
    """Raises what the driver raises."""

    def __init__(self, prefix: str, group: str = "orchestrator") -> None:
        self.key = f"{prefix}:inbox"
        self._group = group
        self._joined = False
        self._look_at = 0.0
        self.pending_count: int | None = None
        """Entries delivered and not acknowledged, as of a short time ago."""
        self.unread: int | None = None
        """Entries not delivered yet, as of a short time ago."""

    def join(self, client: Redis) -> bool:
        """Make sure of the group, from the first entry on; return whether one that was there had gone."""
        try:
            client.xgroup_create(self.key, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
            self._joined = True
            return False
        gone, self._joined = self._joined, True
        return gone

    def read(self, client: Redis, count: int, wait_ms: int | None) -> list[tuple[str, dict[bytes, bytes]]]:
        """Return at most `count` new entries; None: do not wait for any."""
        self._look(client)
        found: Any = client.xreadgroup(self._group, CONSUMER, {self.key: ">"}, count=count, block=wait_ms)
        return [(entry_id.decode(), fields or {}) for _, entries in found or () for entry_id, fields in entries]

    def ping(self, client: Redis) -> None:
        """Notice a dead connection while nothing is read."""
        if time.monotonic() >= self._look_at:
            client.ping()
            self._look(client)

    def pending(self, client: Redis, idle_ms: int, after: str | None, count: int) -> list[Row]:
        """Return at most `count` unacknowledged entries that nobody has touched for `idle_ms`."""
        begin = "-" if after is None else f"({after}"
        rows: Any = client.xpending_range(self.key, self._group, min=begin, max="+", count=count, idle=idle_ms or None)
        return [Row(row["message_id"].decode(), int(row["times_delivered"])) for row in rows]

    def claim(self, client: Redis, ids: list[str], idle_ms: int) -> dict[str, dict[bytes, bytes]]:
        """Take entries over; those that somebody else was quicker with, and those without a body, are left out."""
        if not ids:
            return {}
        found: Any = client.xclaim(self.key, self._group, CONSUMER, idle_ms, list(ids))
        return {entry_id.decode(): fields for entry_id, fields in found if entry_id is not None and fields}

    def fetch(self, client: Redis, entry_id: str) -> dict[bytes, bytes] | None:
        """Return an entry's fields, None when the stream no longer has it."""
        found: Any = client.xrange(self.key, entry_id, entry_id)
        return found[0][1] if found else None

    def settle(self, client: Redis, ids: list[str]) -> None:
        """Acknowledge and delete, both or nothing."""
        pipeline = client.pipeline(transaction=True)
        pipeline.xack(self.key, self._group, *ids)
        pipeline.xdel(self.key, *ids)
        pipeline.execute()

    def forgive(self, client: Redis, ids: list[str]) -> None:
        """Set the number of deliveries back."""
        for start in range(0, len(ids), 500):
            some: Any = ids[start : start + 500]
            client.xclaim(self.key, self._group, CONSUMER, 0, some, retrycount=0, justid=True)

    def length(self, client: Redis) -> int:
        """Return how many entries the stream has."""
        return int(client.xlen(self.key))

    def _look(self, client: Redis) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_EVERY
        summary: Any = client.xpending(self.key, self._group)
        self.pending_count = int(summary["pending"])
        self.unread = max(0, self.length(client) - self.pending_count)
