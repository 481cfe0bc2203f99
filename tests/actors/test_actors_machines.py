"""Random histories against simple models: mailbox, timers, and a supervising actor with its roster."""

from __future__ import annotations

from conformance_support import AT_ONCE, Diary, Fail, Quit, World, plan
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.base import Actor
from actors.child_plan import Added, RemoveChild, StartAgain
from actors.envelope import Envelope
from actors.mailbox import Mailbox
from supervision.backoff import Backoff
from supervision.children import ChildState
from supervision.intensity import Intensity
from supervision.spec import Strategy

QUICKLY = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
LIMIT = 4


class MailboxMachine(RuleBasedStateMachine):
    """A list is the model: who owns the mailbox decides where messages go, never whether."""

    def __init__(self):
        super().__init__()
        self.number = 0
        self.calls = 0
        self._new_box()

    def _new_box(self):
        self.box = Mailbox(LIMIT)
        self.model, self.elsewhere, self.sunk = [], [], []
        self.owner = None
        self.asleep = False

    def _envelope(self):
        self.number += 1
        return Envelope(self.number)

    @property
    def gone(self):
        return self.box.closed

    def _schedule(self, _owner):
        self.calls += 1

    @rule()
    def put(self):
        envelope = self._envelope()
        before = self.calls
        self.box.put(envelope)
        if self.gone:
            self.elsewhere.append(envelope.message)
        else:
            self.model.append(envelope.message)
            assert self.calls - before == (1 if self.asleep else 0)
            self.asleep = False

    @rule()
    def offer(self):
        envelope = self._envelope()
        full = len(self.model) >= LIMIT
        taken = self.box.offer(envelope)
        assert taken == (not full and not self.gone)
        if taken:
            self.model.append(envelope.message)
            self.asleep = False

    @precondition(lambda self: not self.gone)
    @rule()
    def put_first(self):
        envelope = self._envelope()
        self.box.put_first(envelope)
        self.model.insert(0, envelope.message)
        self.asleep = False

    @precondition(lambda self: not self.gone and self.owner is None)
    @rule(awake=st.booleans())
    def attach(self, awake):
        self.owner = object()
        before = self.calls
        self.box.attach(self.owner, self._schedule, awake=awake)
        must_run = awake or bool(self.model)
        assert self.calls - before == must_run
        self.asleep = not must_run

    @precondition(lambda self: not self.gone and self.owner is not None)
    @rule()
    def take(self):
        envelope = self.box.take()
        assert (None if envelope is None else envelope.message) == (self.model.pop(0) if self.model else None)

    @precondition(lambda self: not self.gone and self.owner is not None and not self.asleep)
    @rule()
    def release(self):
        assert self.box.release() == bool(self.model)
        self.asleep = not self.model

    @precondition(lambda self: not self.gone and self.owner is not None)
    @rule()
    def drain_and_restore(self):
        left = self.box.drain()
        assert [envelope.message for envelope in left] == self.model
        self.box.restore(left)

    @precondition(lambda self: not self.gone and self.owner is not None)
    @rule()
    def detach(self):
        self.box.detach()
        self.owner, self.asleep = None, False

    @precondition(lambda self: not self.gone and self.owner is None)
    @rule()
    def close(self):
        self.box.close(lambda envelope: self.sunk.append(envelope.message))
        self.elsewhere, self.model = [*self.model], []

    @precondition(lambda self: not self.gone and self.owner is not None)
    @rule()
    def divert(self):
        last = self._envelope()
        before = self.calls
        self.box.divert(lambda envelope: self.sunk.append(envelope.message), last)
        assert self.calls - before == (1 if self.asleep else 0)
        self.elsewhere, self.model = [*self.model], [last.message]
        self.asleep = False

    @precondition(lambda self: self.gone)
    @rule()
    def begin_again(self):
        self._new_box()

    @invariant()
    def nothing_is_lost_or_doubled(self):
        assert self.sunk == self.elsewhere
        assert len(self.box) == len(self.model)
        assert self.box.empty() == (not self.model)
        assert self.box.attached == (self.owner is not None and self.box._sink is None)


class _Clockwork(Actor):
    def __init__(self, heard):
        super().__init__()
        self.heard = heard

    def on_receive(self, message):
        if callable(message):
            message(self)
        else:
            self.heard.append((round(self.system.clock.monotonic(), 3), message))


class TimerMachine(RuleBasedStateMachine):
    """A table of due times is the model: replaced and cancelled ones never come, the others when they are due."""

    def __init__(self):
        super().__init__()
        self.world = World("virtual")
        self.heard = []
        self.model = {}
        self.expected = []
        self.number = 0
        self._begin()

    def _begin(self):
        self.number += 1
        self.ref = self.world.system.spawn(_Clockwork, f"/c{self.number}", self.heard)
        self.world.time.run()

    def _do(self, action):
        self.ref.tell(action)
        self.world.time.run()

    @rule(key=st.sampled_from("abc"), delay=st.integers(0, 20))
    def schedule(self, key, delay):
        self.number += 1
        message = self.number
        self._do(lambda actor: actor.schedule(delay, message, key))
        self.model.pop(key, None)
        self.model[key] = (self.world.time.now + delay, message)

    @rule(key=st.sampled_from("abc"))
    def unschedule(self, key):
        self._do(lambda actor: actor.unschedule(key))
        self.model.pop(key, None)

    @rule(seconds=st.integers(0, 15))
    def pass_time(self, seconds):
        end = self.world.time.now + seconds
        self.world.time.pass_time(seconds)
        due = [(at, message, key) for key, (at, message) in self.model.items() if at <= end]
        for at, message, key in sorted(due):
            self.expected.append((round(at, 3), message))
            del self.model[key]

    @rule()
    def end_the_actor(self):
        self.ref.stop(block=False)
        self.world.time.run()
        self.model.clear()
        self._begin()

    @invariant()
    def all_that_was_due_has_come_and_nothing_else(self):
        # Those due at one moment come in the order in which they were scheduled.
        assert sorted(self.heard) == sorted(self.expected)
        assert [at for at, _ in self.heard] == sorted(at for at, _ in self.heard)

    def teardown(self):
        self.world.close()


NAMES = ("a", "b", "c", "d")
RESTARTS = ("permanent", "transient", "temporary")


class SupervisionMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: what is listed lives, what lives is listed, and order is kept."""

    def __init__(self):
        super().__init__()
        self.world = World("virtual")
        self.diary = Diary()
        self.kinds = {}
        self.s = None
        self.order = []

    @precondition(lambda self: self.s is None)
    @rule(strategy=st.sampled_from(list(Strategy)), backoff=st.sampled_from([AT_ONCE, Backoff(5.0, 5.0)]))
    def begin(self, strategy, backoff):
        self.backoff = backoff
        self.s = self.world.supervise(strategy=strategy, intensity=Intensity(10**6, 1.0))

    @precondition(lambda self: self.s is not None)
    @rule(name=st.sampled_from(NAMES), restart=st.sampled_from(RESTARTS), fails=st.booleans())
    def add(self, name, restart, fails):
        known = name in self.world.rows(self.s)
        made = plan(self.diary, name, restart, backoff=self.backoff, shutdown_timeout=3.0)
        self.diary.failing_inits[name] = int(fails and not known)
        answer = self.world.add(self.s, made)
        assert isinstance(answer, Added) == (not known and not fails)
        if isinstance(answer, Added):
            self.kinds[name] = restart
            self.order = [n for n in self.order if n != name] + [name]

    @precondition(lambda self: self.s is not None)
    @rule(name=st.sampled_from(NAMES))
    def remove(self, name):
        known = name in self.world.rows(self.s)
        assert self.world.ask(self.s, RemoveChild(name)) == known
        self.world.time.pass_time(4.0)
        assert name not in self.world.rows(self.s)
        assert self.world.system.find(f"/s/{name}") is None

    @precondition(lambda self: self.s is not None)
    @rule(name=st.sampled_from(NAMES), message=st.sampled_from(["fail", "quit", "fail start", "resist"]))
    def tell(self, name, message):
        ref = self.world.system.find(f"/s/{name}")
        if ref is None:
            return
        if message == "resist":
            self.diary.stubborn.add(name)
        elif message == "quit":
            ref.tell(Quit())
        else:
            self.diary.failing_starts[name] = int(message == "fail start")
            ref.tell(Fail(TimeoutError()))
        self.world.time.run()

    @precondition(lambda self: self.s is not None)
    @rule(name=st.sampled_from(NAMES))
    def start_again(self, name):
        row = self.world.rows(self.s).get(name)
        answer = self.world.ask(self.s, StartAgain(name))
        assert isinstance(answer, Added) == (row is not None and row.state is ChildState.STOPPED)

    @precondition(lambda self: self.s is not None)
    @rule(name=st.sampled_from(NAMES))
    def kill(self, name):
        ref = self.world.system.find(f"/s/{name}")
        assert ref is None or self.world.system.kill(ref)
        self.world.time.run()

    @rule(seconds=st.sampled_from([0.1, 3.0, 30.0]))
    def pass_time(self, seconds):
        self.world.time.pass_time(seconds)

    @precondition(lambda self: self.s is not None)
    @rule()
    def stop(self):
        self.s.stop(block=False)
        self.world.time.pass_time(4.0 * len(NAMES))
        assert not self.s.is_alive()
        assert all(self.world.system.find(f"/s/{name}") is None for name in NAMES)
        self.diary.stubborn.clear()
        self.s, self.order = None, []

    @invariant()
    def what_is_listed_lives_and_what_lives_is_listed(self):
        if self.s is None:
            return
        self.world.time.run()
        rows, counts = self.world.rows(self.s), self.world.counts(self.s)
        living = {name for name in NAMES if self.world.system.find(f"/s/{name}") is not None}
        assert living <= set(rows)
        assert living == {n for n, r in rows.items() if r.state in (ChildState.RUNNING, ChildState.STOPPING)} - {
            n for n, r in rows.items() if r.state is ChildState.STOPPING and n not in living
        }
        assert counts.active == len(living)
        assert counts.waiting == sum(row.state is ChildState.STARTING for row in rows.values())
        assert list(rows) == [name for name in self.order if name in rows]

    @invariant()
    def rest_follows_in_time(self):
        """Once nothing happens for long enough every permanent child is up again."""
        if self.s is None or self.diary.stubborn:
            return
        self.world.time.pass_time(40.0)
        rows = self.world.rows(self.s)
        for name, row in rows.items():
            assert row.state in (ChildState.RUNNING, ChildState.STOPPED), (name, row)
            assert row.restart == self.kinds[name]

    def teardown(self):
        self.diary.stubborn.clear()
        self.world.close()


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(QUICKLY, max_examples=300)
TestTimers = TimerMachine.TestCase
TestTimers.settings = settings(QUICKLY, max_examples=200)
TestSupervision = SupervisionMachine.TestCase
TestSupervision.settings = settings(QUICKLY, max_examples=100)
