"""Live events: supervisors publish what is durable, gateways listen.

Publishing to nobody is two lookups. A `quick` listener is called on the publisher's thread and must only hand over;
any other has a thread and a bounded queue of its own. So nobody waits for a listener, and a listener that raises or
lags harms only itself: it can see from the sequence numbers what it has missed, and read that from the journal.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from gateway.ports import Log, Unsubscribe, silent
from messages.events import Event

Callback = Callable[[Event], None]

QUEUE_LIMIT = 10_000
"""Events kept for one listener that lags; then the oldest are dropped."""


class Feed:
    """Safe to use from any thread. Order is kept per publisher, so per conversation."""

    def __init__(self, log: Log = silent, *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._log = log
        self._queue_limit = queue_limit
        self._lock = threading.Lock()
        # Tuples that are replaced, never changed: publishers read them without the lock.
        self._by_id: dict[str, tuple[_Listener, ...]] = {}
        self._everything: tuple[_Listener, ...] = ()
        self._failed = 0
        self._dropped = 0

    def publish(self, events: Iterable[Event]) -> None:
        """Pass durable events on. Never blocks, never raises."""
        by_id, everything = self._by_id, self._everything
        if not by_id and not everything:
            return
        for event in events:
            for listener in by_id.get(event.conversation_id, ()):
                listener.take(event)
            for listener in everything:
                listener.take(event)

    def subscribe(self, conversation_id: str | None, callback: Callback, *, quick: bool = False) -> Unsubscribe:
        """Call `callback` with every event published from now on; None: of all conversations."""
        listener = _Quick(self, callback) if quick else _Lane(self, callback, self._queue_limit)
        with self._lock:
            if conversation_id is None:
                self._everything = (*self._everything, listener)
            else:
                self._by_id[conversation_id] = (*self._by_id.get(conversation_id, ()), listener)

        def unsubscribe() -> None:
            with self._lock:
                if conversation_id is None:
                    self._everything = tuple(x for x in self._everything if x is not listener)
                else:
                    left = tuple(x for x in self._by_id.get(conversation_id, ()) if x is not listener)
                    if left:
                        self._by_id[conversation_id] = left
                    else:
                        self._by_id.pop(conversation_id, None)
            listener.close()

        return unsubscribe

    def stats(self) -> dict[str, int]:
        """Return how many listen, and what became of them."""
        with self._lock:
            listeners = len(self._everything) + sum(map(len, self._by_id.values()))
        return {"listeners": listeners, "dropped": self._dropped, "failed": self._failed}

    def note_failure(self, error: Exception) -> None:
        """Count a listener's exception; only the first is told, or a flood of events would flood the log."""
        self._failed += 1
        if self._failed == 1:
            self._log("error", level="warning", where="feed", error_type=type(error).__name__, error_message=str(error))

    def note_drop(self) -> None:
        """Count an event that a lagging listener will not see."""
        self._dropped += 1


class _Listener:
    def __init__(self, feed: Feed, callback: Callback) -> None:
        self._feed = feed
        self._callback = callback

    def take(self, event: Event) -> None:
        self._call(event)

    def close(self) -> None:
        """End it."""

    def _call(self, event: Event) -> None:
        try:
            self._callback(event)
        except Exception as error:  # noqa: BLE001  # a listener's trouble is counted and is its own
            self._feed.note_failure(error)


class _Quick(_Listener):
    """Called by the publisher itself."""


class _Lane(_Listener):
    """Called by a thread of its own, which begins with the first event and ends with the subscription."""

    def __init__(self, feed: Feed, callback: Callback, limit: int) -> None:
        super().__init__(feed, callback)
        self._limit = limit
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def take(self, event: Event) -> None:
        with self._changed:
            if self._closed:
                return
            if len(self._events) >= self._limit:
                self._events.popleft()
                self._feed.note_drop()
            self._events.append(event)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="feed-listener", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._events.clear()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._events or self._closed)
                if self._closed:
                    return
                event = self._events.popleft()
            self._call(event)
