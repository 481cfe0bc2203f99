"""The durable way in: the stream `orch:inbox`, each entry acknowledged when it is journaled or refused for good.

What is settled is acknowledged and deleted in one transaction, so the stream holds what is not settled and nothing
else: a group that has to be made anew begins at the first entry and takes nothing twice. An entry that comes again all
the same (the acknowledgement was lost) has the same message id, and the conversation knows it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from gateway.ports import FrontDoor, Log
from gateway.redis_lanes import Entry, Lanes
from gateway.redis_link import Link, is_missing_group
from gateway.redis_payload import FIELD, from_entry
from gateway.redis_ports import Bury, Expect, Tell
from gateway.redis_settling import Settling
from gateway.redis_stream import InboxStream, Row
from messages.inbound import Accepted, Answer, Refused
from messages.wire import WireError

MAX_DELIVERIES = 5
"""Deliveries and tries without an end; one more makes a dead letter."""
MAX_LOADED = 256
"""Entries in memory with their bodies."""
MAX_HELD = 10_000
"""Entries known at all: those that wait cost an id each."""
ANSWER_WITHIN = 30.0
"""Seconds the daemon may take to make a message durable or refuse it; then it is asked again, which is safe."""
COME_AGAIN = frozenset({"draining", "store_unavailable", "mailbox_full", "held_back"})
"""Refusals that a later try may not get."""
LONGEST_WAIT = 0.5
"""Seconds the server may keep us waiting for new entries: as long may a stop take to be noticed."""
_IDLE_MS = 10_000
"""Milliseconds after which an entry that was delivered and is not ours is taken over while we run."""
_SWEEP_EVERY = 5.0
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0


class Inbox:
    """Runs on a link's thread; `Accepted` and `Refused` come from any."""

    def __init__(
        self,
        stream: InboxStream,
        link: Link,
        router: FrontDoor,
        *,
        bury: Bury,
        tell: Tell,
        expect: Expect,
        max_bytes: Callable[[], int],
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._link = link
        self._router = router
        self._expect = expect
        self._max_bytes = max_bytes
        self._log = log
        self._now = clock
        self._lanes = Lanes()
        self._answers: deque[tuple[str, Answer]] = deque()
        self._answered = threading.Event()
        self._settling = Settling(stream, bury=bury, tell=tell, log=log, clock=clock)
        self._sweep_at = 0.0
        self._sweep_rest: tuple[str | None, int] | None = None
        self._newest = (0, 0)
        self.figures = dict.fromkeys(("received", "accepted", "retried", "claimed"), 0)

    def work(self, client: Redis) -> None:
        """Serve the stream until the link stops."""
        stream = self._stream
        if stream.join(client):
            self._say_gone(client)
        self._sweep_rest = None
        self._sweep(client, idle_ms=0)
        self._link.up()
        while not self._link.stopping.is_set():
            try:
                self._turn(client)
            except ResponseError as error:
                if not is_missing_group(error):
                    raise
                self._link.stopping.wait(0.2)  # whoever removes it again and again costs five turns a second
                if stream.join(client):
                    self._say_gone(client)
                self._sweep_at, self._sweep_rest = 0.0, None
        self._end(client)

    def _turn(self, client: Redis) -> None:
        self._take_answers()
        self._settling.flush(client)
        if not self._router.draining:
            now = self._now()
            self._ask_again(now)
            if now >= self._sweep_at:
                self._sweep(client, idle_ms=_IDLE_MS)
            self._submit(client, self._lanes.take(now))
        self._read(client)

    # In

    def _read(self, client: Redis) -> None:
        """Read what is new; waits while there is nothing to do."""
        room = self._room()
        if room == 0 or self._router.draining:
            self._rest(0.02 if self._under_way() else 0.2)
            self._stream.ping(client)
            return
        if self._under_way() and not self._answers:
            self._rest(0.02)
        wait_ms = None if self._under_way() or self._answers else self._idle_ms()
        entries = self._stream.read(client, room, wait_ms)
        for entry_id, fields in entries:
            place = _place(entry_id)
            if place <= self._newest and entry_id not in self._lanes:
                reason = f"ids went back: {entry_id} came as new; the server has lost what it knew, or was told to"
                self._log("redis_gap", stream=self._stream.key, count=None, reason=reason)
                self._newest = place  # said once, not for each that follows
            self._newest = max(self._newest, place)
            self._arrive(entry_id, fields, failures=0)
        if entries:
            self._submit(client, self._lanes.take(self._now()))

    def _arrive(self, entry_id: str, fields: dict[bytes, bytes], failures: int) -> None:
        if entry_id in self._lanes:
            return
        self.figures["received"] += 1
        if failures >= MAX_DELIVERIES:
            detail = f"delivered {failures + 1} times without an end"
            self._settling.refuse(entry_id, None, Refused(code="delivered_too_often", detail=detail), fields)
            return
        try:
            message = from_entry(entry_id, fields, max_bytes=self._max_bytes())
        except WireError as error:
            self._settling.refuse(entry_id, None, Refused(code=error.code, detail=error.detail), fields)
        except Exception as error:  # noqa: BLE001  # whatever a hostile body brings about, its entry must come to an end
            refused = Refused(code="invalid_body", detail=f"{type(error).__name__} while it was decoded")
            self._settling.refuse(entry_id, None, refused, fields)
        else:
            self._lanes.add(Entry(entry_id, message.conversation_id, message, failures))

    def _submit(self, client: Redis, entries: list[Entry]) -> None:
        for number, entry in enumerate(entries):
            try:
                if entry.message is None and not self._load(client, entry):
                    continue
            except BaseException:
                self._lanes.give_back(entries[number:])
                raise
            assert entry.message is not None
            self._lanes.ask(entry, self._now())
            self._expect(entry.message.conversation_id)
            try:
                self._router.submit(entry.message, partial(self._note, entry.id))
            except Exception as error:  # noqa: BLE001  # it failed with this message: counted, and after so many a dead letter
                self._fail(entry, f"{type(error).__name__}: {error}")

    def _load(self, client: Redis, entry: Entry) -> bool:
        fields = self._stream.fetch(client, entry.id)
        if fields is None:
            self._lanes.settle(entry)
            self._settling.lose([entry.id], "trimmed or deleted while it waited")
            return False
        message = from_entry(entry.id, fields, max_bytes=max(self._max_bytes(), len(fields.get(FIELD, b""))))
        self._lanes.load(entry, message)
        return True

    def _sweep(self, client: Redis, *, idle_ms: int) -> None:
        """Take over what was delivered and never settled: by a daemon that died, or by an answer that got lost.

        Goes on in a later turn when there is no more room; nothing new is read before, so the order is kept.
        """
        after, idle_ms = self._sweep_rest or (None, idle_ms)
        self._sweep_rest = None
        self._sweep_at = self._now() + _SWEEP_EVERY
        while not self._router.draining:
            if not (room := self._room()):
                self._sweep_rest, self._sweep_at = (after, idle_ms), self._now()
                return
            rows = self._stream.pending(client, idle_ms, after, room)
            if not rows:
                return
            after = rows[-1].id
            self._take_over(client, rows, idle_ms)
            self._submit(client, self._lanes.take(self._now()))

    def _take_over(self, client: Redis, rows: list[Row], idle_ms: int) -> None:
        wanted = [row for row in rows if row.id not in self._lanes and row.id not in self._settling]
        found = self._stream.claim(client, [row.id for row in wanted], idle_ms)
        gone = []
        for row in wanted:
            fields = found.get(row.id)
            if fields is not None:
                self.figures["claimed"] += 1
                self._arrive(row.id, fields, failures=row.deliveries)
            elif self._stream.fetch(client, row.id) is None:
                gone.append(row.id)
        if gone:
            self._settling.lose(gone, "trimmed or deleted before they were settled")

    # Answers

    def _note(self, entry_id: str, answer: Answer) -> None:
        self._answers.append((entry_id, answer))
        self._answered.set()

    def _take_answers(self) -> None:
        self._answered.clear()
        while self._answers:
            entry_id, answer = self._answers.popleft()
            entry = self._lanes.find(entry_id)
            if entry is None:
                continue  # a second answer, after it was asked again
            if isinstance(answer, Accepted):
                self.figures["accepted"] += 1
                self._lanes.settle(entry)
                self._settling.accept(entry_id)
            elif answer.code in COME_AGAIN:
                if self._lanes.is_asked(entry):
                    self._hold(entry, answer)
            else:
                self._refuse(entry, answer)

    def _hold(self, entry: Entry, answer: Refused) -> None:
        self.figures["retried"] += 1
        delay = max(min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(entry.refusals, 10)), 0.0)
        if entry.refusals == 0:
            self._settling.forgive(entry.id)  # it was answered: its deliveries so far were no failures of its own
        entry.refusals += 1
        entry.failures = 0
        self._lanes.hold(entry, self._now() + delay, unload=answer.code == "mailbox_full" or entry.refusals > 2)

    def _fail(self, entry: Entry, why: str) -> None:
        entry.failures += 1
        if entry.failures >= MAX_DELIVERIES:
            detail = f"tried {entry.failures} times without an end; at last {why}"
            self._refuse(entry, Refused(code="delivered_too_often", detail=detail))
        else:
            self._lanes.hold(entry, self._now() + _FIRST_DELAY * 2.0**entry.failures, unload=False)

    def _ask_again(self, now: float) -> None:
        for entry in self._lanes.overdue(now - ANSWER_WITHIN):
            self._fail(entry, f"no answer within {ANSWER_WITHIN:g} s")

    def _refuse(self, entry: Entry, answer: Refused) -> None:
        if entry.message is None:
            return  # a late second answer while it waits without its body: it is asked again, and the letter is whole
        if self._settling.refuse(entry.id, entry.message, answer, {}):
            self._lanes.settle(entry)
        else:
            self._lanes.hold(entry, self._now() + _LONGEST_DELAY, unload=True)

    def _end(self, client: Redis) -> None:
        """Settle what is answered in time; what is not stays pending, and its deliveries are not held against it."""
        deadline = self._now() + 1.0
        while (self._under_way() or self._settling.waiting) and self._now() < deadline:
            self._rest(0.01)
            self._take_answers()
        self._take_answers()
        self._settling.flush(client)
        self._stream.forgive(client, self._lanes.ids())

    def _say_gone(self, client: Redis) -> None:
        """Say that the group had to be made anew, and what may be missing because of it."""
        left = self._stream.length(client)
        unread = max(0, self._stream.unread - left) if self._stream.unread is not None else 0
        self._settling.lost += unread
        self._newest = (0, 0)
        reason = f"the consumer group was gone and was made anew; the stream has {left} entries"
        self._log("redis_gap", stream=self._stream.key, count=unread, reason=reason)

    # Figures

    def state(self) -> dict[str, Any]:
        """Return what `status` shows of it."""
        return {
            **self.figures,
            "refused": self._settling.refused,
            "lost": self._settling.lost,
            "in_flight": self._lanes.loaded,
            "waiting": len(self._lanes) - self._lanes.loaded,
            "pending": self._stream.pending_count,
            "lag": self._stream.unread,
        }

    def _under_way(self) -> bool:
        return self._lanes.asked > 0

    def _room(self) -> int:
        return max(0, min(MAX_LOADED - self._lanes.loaded, MAX_HELD - len(self._lanes), 64))

    def _idle_ms(self) -> int:
        due = [LONGEST_WAIT]
        if (held := self._lanes.due()) is not None:
            due.append(held - self._now())
        if (written := self._settling.due()) is not None:
            due.append(written - self._now())
        return max(1, round(min(due) * 1000))

    def _rest(self, seconds: float) -> None:
        """Wait for an answer."""
        self._answered.wait(seconds)


def _place(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
