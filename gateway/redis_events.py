"""Events out: published on `orch:events:<conversation>` and appended to the stream `orch:log:<conversation>`.

The log's entry ids are `<seq>-0`, so a double is impossible and a gap can be seen. Only the event that follows the
newest one logged is appended; whatever does not follow, or failed, or came while Redis was away, makes its
conversation one that is behind, and those are brought up from the journal. Publishers hand over and never wait.

Events gather for a moment. Sending takes processor time from whoever carries a request, and holds up its next step
where Redis is the store too: the server synchronises its file for both. What answers who came by Redis does not wait.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict, deque
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.ports import FrontDoor, Log, Unsubscribe
from gateway.redis_catchup import CatchUp
from gateway.redis_link import Link
from gateway.redis_passing import Failure, pass_on
from gateway.redis_payload import MAX_WORDS, in_words
from messages.base import CONVERSATION_ID_PATTERN
from messages.events import Event, MessageRefused
from messages.failure import clip
from messages.inbound import Refused
from persistence.contract import StoreUnavailable

QUEUE_LIMIT = 10_000
"""Events that wait to be sent. Then progress is dropped and journaled ones are left to the journal."""
BATCH = 500
GATHER = 0.02
"""Seconds that an event may wait for others."""
PAUSE = 0.005
"""Seconds from one answer to the next: in a crowd answers gather too."""
REMEMBERED = 50_000
"""Conversations whose newest logged number is known without asking."""
_IDLE = 1.0


class Publisher:
    """Runs on a link's thread; events come from any."""

    def __init__(
        self,
        prefix: str,
        link: Link,
        router: FrontDoor,
        *,
        log: Log,
        length: int,
        keep: float,
    ) -> None:
        """`length`: events a log keeps, about; `keep`: seconds a log that nobody adds to is kept."""
        self._prefix = prefix
        self._link = link
        self._router = router
        self._log = log
        self._length = length
        self._keep_ms = max(1, round(keep * 1000))
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._due = 0.0
        """When the events that wait are to be sent; of `time.monotonic`."""
        self._sent = self._answered = 0.0
        """When something was last sent, and when an answer was last sent or is to be."""
        self._expected: OrderedDict[str, None] = OrderedDict()
        self._asleep = False
        """Whether the thread has to be woken for an event that nobody waits for."""
        self._behind: dict[str, None] = {}
        self._logged: OrderedDict[str, int] = OrderedDict()
        self._catch_up = CatchUp(prefix, router, self._send)
        self._unsubscribe: Unsubscribe | None = None
        self._dropped_told = 0
        self._marked: int | None = None
        self.figures = dict.fromkeys(("published", "logged", "dropped", "caught_up"), 0)

    def listen(self, unfinished: list[str]) -> None:
        """Take events from now on; `unfinished`: conversations that may have gone on without being logged."""
        with self._changed:
            self._behind.update(dict.fromkeys(unfinished))
        self._unsubscribe = self._router.feed.subscribe(None, self._take, quick=True)

    def wake(self) -> None:
        """Let the thread look whether it should end."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more events."""
        if self._unsubscribe is not None:
            self._unsubscribe()

    def tell(self, conversation_id: str, message_id: str | None, refused: Refused) -> None:
        """Publish that a message was refused: all the answer there can be over Redis. It is not journaled."""
        if not _is_conversation_id(conversation_id):
            return
        self._take(
            MessageRefused(
                seq=0,
                at=time.time_ns() // 1_000_000,
                conversation_id=conversation_id,
                message_id=message_id or "",
                code=refused.code,
                reason=clip(in_words(refused), MAX_WORDS),
            )
        )

    def expect(self, conversation_id: str) -> None:
        """Send this conversation's replies at once from now on: who asked over Redis waits for them here."""
        with self._changed:
            self._expected[conversation_id] = None
            self._expected.move_to_end(conversation_id)
            if len(self._expected) > REMEMBERED:
                self._expected.popitem(last=False)

    def _take(self, event: Event) -> None:
        with self._changed:
            if self._link.connected and len(self._events) < QUEUE_LIMIT:
                self._hand_over(event)
            elif event.seq:
                self._behind[event.conversation_id] = None
            else:
                self.figures["dropped"] += 1

    def _hand_over(self, event: Event) -> None:
        first = not self._events
        self._events.append(event)
        if first:
            self._due = time.monotonic() + GATHER
        awaited = event.type == "message.refused" or (
            event.type == "reply.sent" and event.conversation_id in self._expected
        )
        if awaited and self._due > (soon := max(self._answered + PAUSE, time.monotonic())):
            self._due = self._answered = soon
            self._changed.notify()
        elif (first and self._asleep) or len(self._events) == BATCH:
            self._changed.notify()

    # The link's thread

    def work(self, client: Redis) -> None:
        """Send until the link stops."""
        self._logged.clear()  # the server may have come back with less than it had
        client.ping()
        with self._changed:
            self._behind.update(dict.fromkeys(self._catch_up.missed(client)))
        self._link.up()
        try:
            while not self._link.stopping.is_set():
                self._turn(client)
            self._finish(client)
        finally:
            self._leave_to_the_journal()

    def _turn(self, client: Redis) -> None:
        began = time.time_ns() // 1_000_000
        with self._changed:
            self._gather()
            events = [self._events.popleft() for _ in range(min(BATCH, len(self._events)))]
            behind = next(iter(self._behind), None)
        if events:
            self._pass_on(client, events)
            self._sent = time.monotonic()
        if behind is not None:
            self._bring_up(client, behind)
        if not events and behind is None:
            client.ping()
            if self._marked != self.figures["logged"] and self._catch_up.mark(client, began):
                self._marked = self.figures["logged"]
        self._say_dropped()

    def _gather(self) -> None:
        """Wait until there is something to send or to catch up with, for a second at most."""
        until = time.monotonic() + _IDLE
        while not self._behind and len(self._events) < BATCH and not self._link.stopping.is_set():
            now = time.monotonic()
            left = (self._due if self._events else until) - now
            if left <= 0:
                return
            # Where events came a moment ago more will come: looking for them costs less than being woken by the first.
            self._asleep = not self._events and now - self._sent > _IDLE
            self._changed.wait(left if self._asleep else min(left, GATHER))
            self._asleep = False

    def _pass_on(self, client: Redis, events: list[Event]) -> None:
        fit: list[Event] = []
        late: dict[str, None] = {}
        newest: dict[str, int] = {}
        for event in events:
            key = event.conversation_id
            if event.seq:
                last = newest.get(key, self._logged.get(key, 0 if event.seq == 1 else -1))
                if event.seq <= last:
                    continue
                if event.seq != last + 1 or key in self._behind or key in late:
                    late[key] = None
                    continue
                newest[key] = event.seq
            fit.append(event)
        if late:
            with self._changed:
                self._behind.update(late)
        try:
            self._send(client, fit)
        except BaseException:
            with self._changed:
                self._behind.update(dict.fromkeys(newest))
            raise

    def _send(self, client: Redis, events: list[Event]) -> None:
        """Send events of any conversations, each conversation's in order. Raises what the driver raises."""
        while events:
            count, failures = pass_on(client, events, prefix=self._prefix, length=self._length, keep_ms=self._keep_ms)
            self._note(events[:count], failures)
            events = events[count:]

    def _note(self, events: list[Event], failures: list[Failure]) -> None:
        not_logged = {id(failure.event): failure for failure in failures if failure.logged}
        for event in events:
            if not event.seq:
                continue
            if id(event) in not_logged:
                self._forget(event.conversation_id)
            else:
                self.figures["logged"] += 1
                self._logged[event.conversation_id] = event.seq
                self._logged.move_to_end(event.conversation_id)
        self.figures["published"] += len(events) - sum(one.event is not None and not one.logged for one in failures)
        while len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)
        # One that is there already is no trouble, nor is a log of another life: it is brought up.
        trouble = [one.reason for one in failures if not (one.logged and "equal or smaller" in one.reason)]
        if trouble:
            self._log("publish_failed", error_message=trouble[0][:500], count=len(trouble))
            raise ResponseError(trouble[0])  # the link waits before it tries again: no room, no right

    def _forget(self, key: str) -> None:
        self._logged.pop(key, None)
        with self._changed:
            self._behind[key] = None

    def _bring_up(self, client: Redis, conversation_id: str) -> None:
        """Bring one conversation's log up to its journal, as far as the journal goes by now."""
        with self._changed:
            self._behind.pop(conversation_id, None)
        try:
            sent, last = self._catch_up.bring_up(client, conversation_id, self._length)
        except (RedisError, OSError, StoreUnavailable):
            with self._changed:
                self._behind[conversation_id] = None
            raise
        except Exception as error:  # noqa: BLE001  # one journal that cannot be read must not hold up all the others
            words = f"its log cannot be brought up: {type(error).__name__}: {error}"[:500]
            self._log("publish_failed", conversation_id=conversation_id, error_message=words, count=1)
            return
        self.figures["caught_up"] += sent
        if last is not None:
            self._logged[conversation_id] = last

    def _finish(self, client: Redis) -> None:
        """Send what has been handed over, for a second at most; the rest is in the journal for the next daemon."""
        deadline = time.monotonic() + 1.0
        while (self._events or self._behind) and time.monotonic() < deadline:
            self._turn(client)

    def _leave_to_the_journal(self) -> None:
        with self._changed:
            for event in self._events:
                if event.seq:
                    self._behind[event.conversation_id] = None
                else:
                    self.figures["dropped"] += 1
            self._events.clear()

    def _say_dropped(self) -> None:
        dropped = self.figures["dropped"]
        if dropped > self._dropped_told:
            count, self._dropped_told = dropped - self._dropped_told, dropped
            self._log("publish_failed", error_message="events that are not journaled were dropped", count=count)

    def state(self) -> dict[str, Any]:
        """Return what `status` shows of it."""
        return {**self.figures, "waiting": len(self._events), "behind": len(self._behind)}


def _is_conversation_id(text: str) -> bool:
    return _PATTERN.fullmatch(text) is not None


_PATTERN = re.compile(CONVERSATION_ID_PATTERN)
