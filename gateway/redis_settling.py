"""How stream entries end: acknowledged and deleted, after a dead letter where they were refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from redis import Redis

from gateway.ports import Log
from gateway.redis_payload import FIELD, Inbound, Letter, in_words, readable
from gateway.redis_ports import Bury, Tell
from gateway.redis_stream import InboxStream
from messages.inbound import Refused

_LOOK_EVERY = 0.05
"""Seconds between looks for dead letters that have been written meanwhile."""
_AT_ONCE = 500


class Settling:
    """Used by one thread. What could not be sent to the server is kept and sent over the next connection."""

    def __init__(self, stream: InboxStream, *, bury: Bury, tell: Tell, log: Log, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._bury = bury
        self._tell = tell
        self._log = log
        self._now = clock
        self._settled: list[str] = []
        self._buried: set[str] = set()
        self._written: deque[tuple[str, bool]] = deque()
        self._forgiven: list[str] = []
        self.refused = 0
        self.lost = 0

    def __contains__(self, entry_id: str) -> bool:
        """Whether an entry has ended and the server only does not know it."""
        return entry_id in self._settled or entry_id in self._buried

    def accept(self, entry_id: str) -> None:
        """End an entry that is journaled."""
        self._settled.append(entry_id)

    def refuse(self, entry_id: str, message: Inbound | None, answer: Refused, fields: dict[bytes, bytes]) -> bool:
        """End an entry that was refused for good; False when its dead letter cannot be kept now: it stays as it is.

        `fields` are shown when there is no message.
        """
        address = f"{self._stream.key}/{entry_id}"
        kind = "unreadable" if message is None else message.type
        raw = fields.get(FIELD)
        content = message if message is not None else readable(raw if raw is not None else repr(fields).encode())
        letter = Letter(address, answer.code, in_words(answer), kind, content, True, partial(self._note, entry_id))
        self._buried.add(entry_id)  # before it is handed over: it may be written at once
        if not self._bury(letter):
            self._buried.discard(entry_id)
            return False
        self.refused += 1
        conversation_id = None if message is None else message.conversation_id
        message_id = getattr(message, "message_id", None)
        self._log(
            "message_refused",
            conversation_id=conversation_id,
            message_id=message_id,
            door="redis",
            code=answer.code,
            reason=in_words(answer)[:500],
        )
        if conversation_id is not None:
            self._tell(conversation_id, message_id, answer)
        return True

    def lose(self, ids: list[str], reason: str) -> None:
        """End entries whose body is gone."""
        self.lost += len(ids)
        self._settled.extend(ids)
        shown = ", ".join(ids[:20]) + (", ..." if len(ids) > 20 else "")
        self._log("redis_gap", stream=self._stream.key, count=len(ids), reason=f"{reason}: {shown}")

    def forgive(self, entry_id: str) -> None:
        """Hold an entry's deliveries so far not against it."""
        self._forgiven.append(entry_id)

    def flush(self, client: Redis) -> None:
        """Tell the server. An entry whose dead letter is not in the store stays pending and comes again."""
        while self._written:
            entry_id, kept = self._written.popleft()
            self._buried.discard(entry_id)
            if kept:
                self._settled.append(entry_id)
        if self._forgiven:
            self._stream.forgive(client, self._forgiven)
            self._forgiven.clear()
        while self._settled:
            some = self._settled[:_AT_ONCE]
            self._stream.settle(client, some)
            del self._settled[: len(some)]

    def due(self) -> float | None:
        """Return when to look again whether there is something to tell."""
        if self._written or self._settled:
            return self._now()
        return self._now() + _LOOK_EVERY if self._buried else None

    @property
    def waiting(self) -> bool:
        """Whether dead letters are not in the store yet."""
        return len(self._buried) > len(self._written)

    def _note(self, entry_id: str, kept: bool) -> None:  # a callback's only answer
        self._written.append((entry_id, kept))
