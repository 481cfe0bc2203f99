"""What the conformance tests share: a world on virtual time and one on real threads, and children that obey orders."""

from __future__ import annotations

import threading
from collections import deque
from heapq import heappop, heappush
from typing import ClassVar

import pykka
from actors_support import DEADLINE, Log, wait_until

from actors.base import Actor
from actors.child_plan import AddChild, ChildPlan, CountChildren, DeclinedToStart, FindChild, ListChildren
from actors.supervising import SupervisingActor
from actors.system import ActorSystem
from actors.timers import TimerHandle
from supervision.backoff import Backoff
from supervision.intensity import Intensity
from supervision.spec import ChildSpec

OFTEN = Intensity(1000, 1.0)
QUICK = Backoff(min_backoff=0.01, max_backoff=0.01, random_factor=0.0)
AT_ONCE = Backoff(min_backoff=0.0, max_backoff=0.0, random_factor=0.0)


class VirtualTime:
    """Clock, timers and dispatcher of one thread: time moves only when nothing else can be done."""

    def __init__(self):
        self.now = 1000.0
        self._heap = []
        self._number = 0
        self._ready = deque()
        self.escapes = 0
        self.schedule = self._ready.append

    def monotonic(self):
        return self.now

    def now_ms(self):
        return int(self.now * 1000)

    def start(self):
        return None

    def run(self):
        """Run actors until all are idle."""
        while self._ready:
            actor = self._ready.popleft()
            if actor.run_batch(8):
                self._ready.append(actor)

    def step(self):
        """Run one turn of one actor; return whether there was one."""
        if not self._ready:
            return False
        actor = self._ready.popleft()
        if actor.run_batch(1):
            self._ready.append(actor)
        return True

    def fire_next(self):
        """Move to the next timer and fire it; return whether there was one."""
        while self._heap:
            due, _, handle = heappop(self._heap)
            if handle.active:
                self.now = max(self.now, due)
                callback, handle.callback = handle.callback, None
                callback()
                return True
        return False

    def until(self, condition):
        self.run()
        while not condition():
            assert self.fire_next(), "nothing is left to happen"
            self.run()

    def pass_time(self, seconds):
        """Let so much time pass, with all that falls due in it."""
        end = self.now + seconds
        self.run()
        while any(h.active and due <= end for due, _, h in self._heap):
            self.fire_next()
            self.run()
        self.now = end

    def wait(self, done, timeout):
        end = self.now + timeout
        self.run()
        while not done.is_set() and any(h.active and due <= end for due, _, h in self._heap):
            self.fire_next()
            self.run()
        return done.is_set()

    def stop(self, _timeout):
        return True


class VirtualTimers:
    """The timer service of a `VirtualTime`."""

    def __init__(self, time):
        self._time = time

    def schedule(self, delay, callback):
        time = self._time
        time._number += 1
        handle = TimerHandle(time.now + max(0.0, delay), callback)
        heappush(time._heap, (handle.due, time._number, handle))
        return handle

    def stop(self, _timeout):
        return True


class World:
    """An actor system and how to wait in it; the same test runs in both kinds."""

    def __init__(self, kind, mailbox_limit=10_000):
        self.log = Log()
        self.virtual = kind == "virtual"
        self.time = VirtualTime()
        services = {}
        if self.virtual:
            services = {"dispatcher": self.time, "clock": self.time, "timers": VirtualTimers(self.time)}
        self.system = ActorSystem(log=self.log, mailbox_limit=mailbox_limit, **services)

    def until(self, condition):
        if self.virtual:
            self.time.until(condition)
        else:
            wait_until(condition)

    def ask(self, ref, message):
        return self.get(ref.ask(message, block=False))

    def get(self, future):
        if self.virtual:
            self.time.until(lambda: future._done)
        return future.get(timeout=DEADLINE)

    def supervise(self, *plans, name="/s", actor_class=SupervisingActor, **options):
        options.setdefault("intensity", OFTEN)
        ref = self.system.spawn(actor_class, name, plans, jitter=lambda: 0.0, **options)
        self.ask(ref, CountChildren())
        return ref

    def add(self, ref, plan):
        return self.ask(ref, AddChild(plan))

    def address(self, ref, child_id):
        return self.ask(ref, FindChild(child_id))

    def rows(self, ref):
        return {row.id: row for row in self.ask(ref, ListChildren())}

    def counts(self, ref):
        return self.ask(ref, CountChildren())

    def tell(self, ref, child_id, message):
        self.address(ref, child_id).tell(message)

    def close(self):
        assert self.system.stop(DEADLINE) == []
        assert self.system.dispatcher.escapes == 0


class Diary:
    """What children write down: births, messages, ends, in the order in which they happened."""

    def __init__(self):
        self.lines = []
        self.failing_starts = {}
        self.failing_inits = {}
        self.declining = set()
        self.stubborn = set()
        self.failing_ends = set()
        self.gates = {}

    def of(self, what):
        return [name for kind, name, *_ in list(self.lines) if kind == what]

    def count(self, what, name):
        return self.of(what).count(name)

    def heard(self, name):
        return [line[2] for line in list(self.lines) if line[0] == "heard" and line[1] == name]


class Fail:
    """Fail with this error."""

    def __init__(self, error):
        self.error = error


class Quit:
    """End without an error."""


class Remember:
    """Keep this as state."""

    def __init__(self, value):
        self.value = value


class Recall:
    """Asked: what was kept."""


class Block:
    """Hold the thread until the event is set."""

    def __init__(self):
        self.entered = threading.Event()
        self.leave = threading.Event()


class Probe(Actor):
    """A child that does what it is told, and writes it down."""

    kind: ClassVar[str] = "probe"

    def __init__(self, diary, name, *_payload):
        super().__init__()
        if name in diary.declining:
            raise DeclinedToStart
        if diary.failing_inits.get(name, 0) > 0:
            diary.failing_inits[name] -= 1
            diary.lines.append(("init failed", name))
            raise ConnectionError(f"{name} cannot be made")
        self.diary, self.name, self.value = diary, name, None
        diary.lines.append(("made", name))

    def on_start(self):
        if self.diary.failing_starts.get(self.name, 0) > 0:
            self.diary.failing_starts[self.name] -= 1
            self.diary.lines.append(("start failed", self.name))
            raise ConnectionError(f"{self.name} cannot start")
        self.diary.lines.append(("up", self.name))

    def may_end(self):
        self.diary.lines.append(("asked", self.name))
        if self.name in self.diary.failing_ends:
            raise OSError(f"{self.name} fails while it stops")
        return self.name not in self.diary.stubborn

    def on_receive(self, message):
        match message:
            case Fail():
                self.diary.lines.append(("failed", self.name))
                raise message.error
            case Quit():
                self.diary.stubborn.discard(self.name)
                self.stop()
            case Remember():
                self.value = message.value
            case Recall():
                return self.value
            case Block():
                message.entered.set()
                message.leave.wait(DEADLINE)
            case _:
                self.diary.lines.append(("heard", self.name, message))
        return message

    def on_stop(self):
        self.diary.lines.append(("down", self.name))


def plan(diary, name, restart="permanent", *, backoff=QUICK, payload=(), actor_class=Probe, **options):
    """Return the plan of a probe; options that a spec does not have go to the plan."""
    own = {key: options.pop(key) for key in ("rules", "stash_limit", "quiet_failures") if key in options}
    spec = ChildSpec(name, restart, backoff=backoff, **options)
    return ChildPlan(spec, actor_class, (diary, name, *payload), **own)


def dead(ref):
    return not ref.is_alive()


def answer(future):
    try:
        return future.get(timeout=DEADLINE)
    except pykka.ActorDeadError as error:
        return error


class Over(Actor):
    """Stands above a supervising actor and keeps what it reports."""

    def __init__(self, reports):
        super().__init__()
        self.reports = reports

    def on_receive(self, message):
        self.reports.append(message)
        super().on_receive(message)
