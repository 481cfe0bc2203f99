"""Bringing the log streams up to the journal after Redis or the daemon was away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import Redis

from gateway.ports import FrontDoor
from messages.events import Event

PAGE = 500
_LIST_PAGE = 200
_MARK_EVERY_MS = 1_000
MARGIN_MS = 60_000
"""How much earlier than the mark a change may have been decided and yet be passed on only later."""

Send = Callable[[Redis, list[Event]], None]


class CatchUp:
    """Reads the journal and sends what is missing; raises what the driver and the store raise."""

    def __init__(self, prefix: str, router: FrontDoor, send: Send) -> None:
        self._prefix = prefix
        self._router = router
        self._send = send
        self._marked = 0

    def mark(self, client: Redis, at_ms: int) -> bool:
        """Note on the server that all events up to a time are logged; False when that was done a moment ago."""
        if 0 <= at_ms - self._marked < _MARK_EVERY_MS:
            return False
        client.set(f"{self._prefix}:log-mark", at_ms)
        self._marked = at_ms
        return True

    def missed(self, client: Redis) -> list[str]:
        """Return the conversations that changed since the mark, oldest change first; none when there is no mark."""
        value: Any = client.get(f"{self._prefix}:log-mark")
        if value is None:
            return []
        since = int(value) - MARGIN_MS
        found: list[str] = []
        after: tuple[int, str] | None = None
        while True:
            rows = self._router.conversations(phase=None, after=after, limit=_LIST_PAGE)
            fresh = [row for row in rows if row.updated_at >= since]
            found.extend(self._behind(client, [(row.conversation_id, row.last_seq) for row in fresh]))
            if len(fresh) < _LIST_PAGE:
                return found[::-1]
            after = (fresh[-1].updated_at, fresh[-1].conversation_id)

    def bring_up(self, client: Redis, conversation_id: str, length: int) -> tuple[int, int | None]:
        """Send what one log lacks; return how many events that was, and the newest number it now has, if known.

        A log that is ahead of the journal belongs to another one (a store that was emptied or restored): it is deleted
        and begun anew.
        """
        row = self._router.conversation(conversation_id)
        if row is None:
            return 0, None
        newest = int(row["seq"])
        (last,) = self._last(client, [conversation_id])
        if last > newest:
            client.delete(self._key(conversation_id))
            last = 0
        sent, last = 0, max(last, newest - length)
        while True:
            events = self._router.events(conversation_id, last, PAGE) or ()
            if not events:
                return sent, last
            self._send(client, list(events))
            sent, last = sent + len(events), events[-1].seq

    def _behind(self, client: Redis, rows: list[tuple[str, int]]) -> list[str]:
        logged = self._last(client, [key for key, _ in rows]) if rows else []
        return [key for (key, seq), last in zip(rows, logged, strict=True) if last != seq]

    def _last(self, client: Redis, ids: list[str]) -> list[int]:
        """Return the newest sequence number in each log, 0 where there is none."""
        pipeline = client.pipeline(transaction=False)
        for conversation_id in ids:
            pipeline.xrevrange(self._key(conversation_id), count=1)
        return [int(found[0][0].partition(b"-")[0]) if found else 0 for found in pipeline.execute()]

    def _key(self, conversation_id: str) -> str:
        return f"{self._prefix}:log:{conversation_id}"
