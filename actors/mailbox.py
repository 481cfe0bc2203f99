"""The queue of one actor: ordered per sender, bounded at the entrance, handed on to a successor.

An idle mailbox holds no queue at all (an empty deque costs 600 bytes, and most actors are idle most of the time).

The lock guards two facts together: whether there are messages, and whether a dispatcher knows about them. Without it a
message could arrive between "nothing left to do" and "asleep", and wait for ever. Only the consumer takes messages
out, so taking needs no lock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from actors.envelope import Envelope

Sink = Callable[[Envelope], None]
"""Where messages go that nobody will ever take."""

_EMPTY: deque[Envelope] = deque()
"""Stands for "no spare needed"; never filled."""


class Mailbox:
    """pykka's inbox protocol (`put`, `get`, `empty`), bounded and measured.

    It outlives its actor: between two lives it keeps what arrives, until `attach` gives it to the next one or `close`
    ends it.
    """

    __slots__ = ("_claimed", "_divert", "_items", "_lock", "_now", "_owner", "_schedule", "_sink", "limit")

    def __init__(self, limit: int | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        """Messages at which `offer` refuses; None: never."""
        self._lock = Lock()
        self._items: deque[Envelope] | None = None
        self._now = now
        self._owner: Any = None
        self._schedule: Callable[[Any], None] | None = None
        self._claimed = True
        self._sink: Sink | None = None
        self._divert: Sink | None = None

    def configure(self, limit: int | None, now: Callable[[], float]) -> None:
        """Set limit and clock of a mailbox nobody uses yet."""
        self.limit = limit
        self._now = now

    def __len__(self) -> int:
        items = self._items
        return len(items) if items is not None else 0

    @property
    def depth(self) -> int:
        """Messages waiting."""
        return len(self)

    @property
    def oldest_age(self) -> float | None:
        """Seconds the oldest message has waited; None when there is none."""
        items = self._items
        try:
            return max(0.0, self._now() - items[0].at) if items else None
        except IndexError:  # its consumer was faster
            return None

    @property
    def attached(self) -> bool:
        """Whether an actor takes from it."""
        return self._owner is not None and self._sink is None

    @property
    def closed(self) -> bool:
        """Whether all it is given goes elsewhere, for good."""
        return self._sink is not None or self._divert is not None

    def empty(self) -> bool:
        """Return whether no message waits."""
        return not self._items

    # Senders

    def put(self, envelope: Envelope, /) -> None:
        """Take a message, whatever the limit: for messages between our own actors. Never blocks."""
        envelope.at = self._now()
        # Made outside the lock: an allocation may run finalizers, and those may tell this very actor something.
        spare = _EMPTY if self._items is not None else deque()
        with self._lock:
            divert = self._divert
            if divert is None:
                items = self._items
                if items is None:
                    items = self._items = deque() if spare is _EMPTY else spare
                items.append(envelope)
                if self._claimed:
                    return
                self._claimed = True
        if divert is not None:
            divert(envelope)
        else:
            self._wake()

    def offer(self, envelope: Envelope, /) -> bool:
        """Take a message unless the mailbox is at its limit, or closed; return whether it was taken."""
        envelope.at = self._now()
        spare = _EMPTY if self._items is not None else deque()
        with self._lock:
            items = self._items
            if self.closed or (self.limit is not None and len(items or ()) >= self.limit):
                return False
            if items is None:
                items = self._items = deque() if spare is _EMPTY else spare
            items.append(envelope)
            if self._claimed:
                return True
            self._claimed = True
        self._wake()
        return True

    def put_first(self, envelope: Envelope, /) -> None:
        """Take a message that goes before all others: for orders to end."""
        envelope.at = self._now()
        self.restore((envelope,))
        with self._lock:
            if self._claimed:
                return
            self._claimed = True
        self._wake()

    # The consumer

    def get(self) -> Envelope:
        """Return the oldest message. Raises `IndexError` when there is none: a dispatcher never waits for one."""
        items = self._items
        if items is None:
            raise IndexError("the mailbox is empty")
        return items.popleft()

    def take(self) -> Envelope | None:
        """Return the oldest message, or None."""
        items = self._items
        return items.popleft() if items else None

    def release(self) -> bool:
        """End a turn; return True when messages are left, so that the owner must be run again."""
        with self._lock:
            if self._items:
                return self._owner is not None
            self._items = None
            if self._owner is not None:
                self._claimed = False
            return False

    def drain(self) -> list[Envelope]:
        """Take out and return all messages, the oldest first."""
        with self._lock:
            items, self._items = self._items, None
        return list(items) if items is not None else []

    def restore(self, envelopes: Iterable[Envelope]) -> None:
        """Put messages back before those that have come since; they must be in order."""
        spare = deque(envelopes)
        backwards = reversed(spare)  # made outside the lock, as in `put`
        with self._lock:
            if self._items is None:
                self._items = spare
            else:
                # The same queue as before: a consumer that is about to take from it would take what a copy has too.
                self._items.extendleft(backwards)

    # Owners

    def attach(self, owner: Any, schedule: Callable[[Any], None], *, awake: bool = True) -> None:
        """Let `owner` take from now on; `schedule(owner)` is called whenever it must be run.

        With `awake` it is run at once, even without a message. Raises `ValueError` when another owner has it, or when
        it is closed.
        """
        with self._lock:
            if self._owner is not None:
                raise ValueError("this mailbox belongs to a live actor" if self._sink is None else "it is closed")
            self._owner = owner
            self._schedule = schedule
            self._claimed = awake or bool(self._items)
            if not self._claimed:
                return
        schedule(owner)

    def detach(self) -> None:
        """Take the mailbox from its owner, messages and all; what comes is kept for the next owner."""
        with self._lock:
            self._owner = None
            self._schedule = None
            self._claimed = True

    def close(self, sink: Sink) -> None:
        """Give all messages, and every later one, to `sink`."""
        with self._lock:
            self._owner = sink
            self._schedule = None
            self._sink = sink
            self._claimed = True
        self._empty_into_sink(sink)

    def divert(self, sink: Sink, last: Envelope) -> None:
        """Give all messages, and every later one, to `sink`; the owner gets `last` and nothing more."""
        with self._lock:
            items, self._items = self._items, deque((last,))
            self._divert = sink
            claimed, self._claimed = self._claimed, True
        while items:  # the owner may be about to take from it
            try:
                envelope = items.popleft()
            except IndexError:
                break
            sink(envelope)
        if not claimed:
            self._wake()

    def _empty_into_sink(self, sink: Sink) -> None:
        while True:
            for envelope in self.drain():
                sink(envelope)
            with self._lock:
                if not self._items:
                    self._claimed = False
                    return

    def _wake(self) -> None:
        schedule, sink = self._schedule, self._sink
        if schedule is not None:
            schedule(self._owner)
        elif sink is not None:
            self._empty_into_sink(sink)
