"""The dispatcher: nothing is lost, nothing runs twice at once, nothing an actor does ends a thread."""

import threading
from itertools import groupby

import pytest
from actors_support import DEADLINE, Recorder, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.base import Actor
from actors.dispatcher import ThreadDispatcher
from actors.system import ActorSystem
from actors.timers import TimerHandle


class Exclusive(Actor):
    """Notices when two threads run it at once, and keeps what it heard."""

    def __init__(self):
        super().__init__()
        self._inside = threading.Lock()
        self.heard = []
        self.overlaps = 0

    def on_receive(self, message):
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            return
        self.heard.append(message)
        self._inside.release()


def in_threads(*calls):
    """Run calls at the same time, one thread each."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 4))
def test_order_is_kept_per_sender_and_an_actor_never_runs_twice_at_once(threads, batch, actors):
    system = ActorSystem(dispatcher=ThreadDispatcher(threads=threads, batch=batch))
    refs = [system.spawn(Exclusive, f"/a{n}") for n in range(actors)]

    def sender(name):
        def send():
            for count in range(200):
                refs[count % actors].tell((name, count))

        return send

    in_threads(*(sender(name) for name in range(4)))
    for ref in refs:
        ref.ask("flush", timeout=DEADLINE)
        actor = ref._actor_weakref()
        assert actor.overlaps == 0
        heard = sorted((m for m in actor.heard if m != "flush"), key=lambda message: message[0])
        for _, group in groupby(heard, key=lambda message: message[0]):
            counts = [count for _, count in group]
            assert counts == sorted(counts)
    assert sum(len(ref._actor_weakref().heard) for ref in refs) == 4 * 200 + actors
    assert system.stop(DEADLINE) == []


def test_no_wake_up_is_lost_however_often_actors_fall_asleep(system):
    """Each message arrives about when its actor has run out of work; a lost wake-up would end the relay."""
    done = threading.Event()

    class Runner(Actor):
        def __init__(self, others):
            super().__init__()
            self._others = others

        def on_receive(self, message):
            if message == 0:
                done.set()
            else:
                self._others[message % len(self._others)].tell(message - 1)

    runners = []
    for number in range(50):
        runners.append(system.spawn(Runner, f"/runner/{number}", runners))
    finished = []
    for _ in range(20):
        done.clear()
        in_threads(*(lambda: runners[0].tell(500) for _ in range(2)))
        finished.append(done.wait(DEADLINE))
    assert all(finished)


def test_a_busy_actor_does_not_starve_the_others():
    system = ActorSystem(dispatcher=ThreadDispatcher(threads=1, batch=10))

    class Endless(Actor):
        def on_receive(self, message):
            self.actor_ref.tell(message)

    system.spawn(Endless, "/endless").tell("again")
    other = system.spawn(Recorder, "/other")
    assert [other.ask(n, timeout=DEADLINE) for n in range(5)] == list(range(5))
    assert system.stop(DEADLINE) == []


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), MemoryError()], ids=repr)
def test_nothing_an_actor_raises_ends_a_dispatcher_thread(system, error):
    class Raiser(Actor):
        def on_receive(self, message):
            raise message

    threads = set(system.dispatcher._workers)
    for number in range(10):
        ref = system.spawn(Raiser, f"/raiser/{number}")
        ref.tell(error)
        assert ref.actor_stopped.wait(DEADLINE)
    assert system.spawn(Recorder, "/after").ask("hi", timeout=DEADLINE) == "hi"
    assert set(system.dispatcher._workers) == threads


def test_an_error_in_the_runtime_itself_is_counted_and_the_thread_goes_on():
    dispatcher = ThreadDispatcher(threads=1)
    dispatcher.start()
    after = threading.Event()

    class Broken:
        path = "/broken"

        def run_batch(self, limit):
            raise SystemExit

    class Fine:
        path = "/fine"

        def run_batch(self, limit):
            after.set()
            return False

    dispatcher.schedule(Broken())
    dispatcher.schedule(Fine())
    assert after.wait(DEADLINE)
    assert dispatcher.escapes == 1
    assert dispatcher.stop(DEADLINE)


def test_what_runs_and_since_when_is_visible(system):
    gate, inside = threading.Event(), threading.Event()

    class Busy(Actor):
        def on_receive(self, message):
            inside.set()
            gate.wait(DEADLINE)

    system.spawn(Busy, "/busy").tell("work")
    assert inside.wait(DEADLINE)
    wait_until(lambda: [running.path for running in system.dispatcher.running()] == ["/busy"])
    (running,) = system.dispatcher.running()
    assert running.seconds >= 0
    assert running.thread.startswith("orchestrator-")
    gate.set()
    wait_until(lambda: system.dispatcher.running() == [])


def test_actors_that_wait_do_not_hold_up_the_others_and_surplus_threads_go_again():
    system = ActorSystem(dispatcher=ThreadDispatcher(threads=1))
    helper = system.spawn(Recorder, "/helper")

    class Asker(Actor):
        def on_receive(self, message):
            return helper.ask(message, timeout=DEADLINE)

    askers = [system.spawn(Asker, f"/asker/{n}") for n in range(10)]
    answers = [asker.ask(n, block=False) for n, asker in enumerate(askers)]
    assert [answer.get(timeout=DEADLINE) for answer in answers] == list(range(10))

    def shrunk():
        helper.ask("a bit of work", timeout=DEADLINE)
        return len(system.dispatcher._workers) == 1

    wait_until(shrunk)
    assert system.stop(DEADLINE) == []


@pytest.mark.parametrize("values", [{"threads": 0}, {"batch": 0}])
def test_a_dispatcher_needs_threads_and_a_batch(values):
    with pytest.raises(ValueError, match="1 or more"):
        ThreadDispatcher(**values)


def test_twenty_thousand_idle_actors_cost_little_and_all_answer(system):
    refs = [system.spawn(Recorder, f"/idle/{n}") for n in range(20_000)]
    answers = [ref.ask(n, block=False) for n, ref in enumerate(refs)]
    assert all(answer.get(timeout=DEADLINE) == n for n, answer in enumerate(answers))
    assert len(system.dispatcher._workers) == 2


# Another dispatcher: one thread, one order


class SteppedDispatcher:
    """Runs actors in the caller's thread, one message at a time, in an order of the test's choosing."""

    def __init__(self, choose):
        self.ready = []
        self.choose = choose

    def schedule(self, actor):
        self.ready.append(actor)

    def start(self):
        self.ready.clear()

    def stop(self, timeout):
        return not self.ready

    def wait(self, done, timeout):
        while self.ready and not done.is_set():
            actor = self.ready.pop(self.choose(len(self.ready)))
            if actor.run_batch(1):
                self.ready.append(actor)
        return done.is_set()


class SteppedClock:
    """A clock and its timers that move when told to."""

    def __init__(self):
        self.now = 0.0
        self.waiting = []

    def monotonic(self):
        return self.now

    def now_ms(self):
        return int(self.now * 1000)

    def schedule(self, delay, callback):
        handle = TimerHandle(self.now + delay, callback)
        self.waiting.append(handle)
        return handle

    def advance(self, seconds):
        self.now += seconds
        due = sorted((h for h in self.waiting if h.active and h.due <= self.now), key=lambda h: h.due)
        self.waiting = [h for h in self.waiting if h not in due]
        for handle in due:
            handle.callback()

    def stop(self, timeout):
        self.waiting.clear()
        return True


@given(st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_runtime_works_in_one_thread_under_a_virtual_clock(random):
    """Nothing in it needs threads or real time: any order of runnable actors gives the same outcome."""
    clock, heard = SteppedClock(), []
    dispatcher = SteppedDispatcher(random.randrange)
    system = ActorSystem(dispatcher=dispatcher, clock=clock, timers=clock)

    class Ticker(Actor):
        def on_start(self):
            self.schedule(10.0, "tick")
            self.spawn(Exclusive, "child")

        def on_receive(self, message):
            heard.append((self.path, message, self.system.monotonic()))
            raise TimeoutError

    before = threading.active_count()
    for number in range(5):
        system.spawn(Ticker, f"/t{number}")
    dispatcher.wait(threading.Event(), 0)
    clock.advance(9.9)
    dispatcher.wait(threading.Event(), 0)
    assert heard == []
    assert len(system.tree.rows()) == 10
    clock.advance(0.1)
    dispatcher.wait(threading.Event(), 0)
    assert sorted(heard) == [(f"/t{n}", "tick", 10.0) for n in range(5)]
    assert system.tree.rows() == []
    assert system.stop(1.0) == []
    assert threading.active_count() == before
