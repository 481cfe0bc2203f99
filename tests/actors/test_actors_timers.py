"""Timers: the service, and what actors schedule for themselves."""

import queue
import threading

import pytest
from actors_support import DEADLINE, Recorder, wait_until

from actors.timers import SystemClock, Timers


@pytest.fixture
def timers():
    made = Timers()
    yield made
    assert made.stop(DEADLINE)


def test_calls_come_in_the_order_of_their_due_times(timers):
    heard = queue.SimpleQueue()
    for delay in (0.03, 0.01, 0.02, -1.0):
        timers.schedule(delay, lambda delay=delay: heard.put(delay))
    assert [heard.get(timeout=DEADLINE) for _ in range(4)] == [-1.0, 0.01, 0.02, 0.03]


def test_calls_due_at_the_same_time_come_in_the_order_they_were_scheduled():
    clock = SystemClock()
    clock.monotonic = lambda: 0.0
    timers = Timers(clock)
    heard = queue.SimpleQueue()
    for number in range(50):
        timers.schedule(0, lambda number=number: heard.put(number))
    assert [heard.get(timeout=DEADLINE) for _ in range(50)] == list(range(50))
    assert timers.stop(DEADLINE)


def test_a_cancelled_call_does_not_come(timers):
    heard = queue.SimpleQueue()
    handle = timers.schedule(0.01, lambda: heard.put("cancelled"))
    assert handle.active
    handle.cancel()
    handle.cancel()
    assert not handle.active
    timers.schedule(0.02, lambda: heard.put("kept"))
    assert heard.get(timeout=DEADLINE) == "kept"


def test_cancelled_timers_do_not_pile_up(timers):
    for _ in range(10_000):
        timers.schedule(3600, print).cancel()
    assert len(timers) < 200


def test_a_call_that_raises_does_not_end_the_others():
    errors = queue.SimpleQueue()
    timers = Timers(on_error=errors.put)
    done = threading.Event()
    timers.schedule(0, exit_now)
    timers.schedule(0.001, done.set)
    assert done.wait(DEADLINE)
    assert isinstance(errors.get(timeout=DEADLINE), SystemExit)
    assert timers.failures == 1
    assert timers.stop(DEADLINE)


def exit_now():
    raise SystemExit


def test_no_thread_without_a_timer_and_nothing_after_stop():
    timers = Timers()
    assert timers._thread is None
    assert timers.stop(DEADLINE)
    handle = timers.schedule(0, print)
    assert not handle.active
    assert timers._thread is None


# In actors


class Clockwork(Recorder):
    """Does to its timers what it is told."""

    def on_receive(self, message):
        if callable(message):
            return message(self)
        return super().on_receive(message)


@pytest.fixture
def actor(system):
    return system.spawn(Clockwork, "/clockwork")


@pytest.fixture
def heard(actor):
    return actor._actor_weakref().heard


def test_a_scheduled_message_comes_as_if_it_had_been_told(actor, heard):
    actor.tell(lambda self: self.schedule(0.001, "tick"))
    assert heard.get(timeout=DEADLINE) == "tick"


def test_the_same_key_replaces_and_other_keys_do_not(actor, heard):
    def act(self):
        self.schedule(0, "replaced", key="k")
        self.schedule(0.02, "second", key="k")
        self.schedule(0.01, "first", key="other")
        self.schedule(0.03, "third")

    actor.tell(act)
    assert [heard.get(timeout=DEADLINE) for _ in range(3)] == ["first", "second", "third"]


def test_a_timer_message_already_in_the_mailbox_is_not_handled_once_it_is_cancelled(actor, heard):
    gate = threading.Event()

    def act(self):
        by_key = self.schedule(0, "by key", key="k")
        by_handle = self.schedule(0, "by handle")
        replaced = self.schedule(0, "replaced", key="r")
        wait_until(lambda: len(self.actor_inbox) == 3)
        self.unschedule("k")
        by_handle.cancel()
        self.schedule(0, "replacement", key="r")
        self.unschedule("nothing by that key")
        assert by_key.key == replaced.key.replace("r", "k")
        gate.set()

    actor.tell(act)
    assert gate.wait(DEADLINE)
    assert heard.get(timeout=DEADLINE) == "replacement"
    actor.ask("flush", timeout=DEADLINE)
    assert heard.get(timeout=DEADLINE) == "flush"


def test_cancelling_a_replaced_timer_leaves_its_replacement_alone(actor, heard):
    def act(self):
        old = self.schedule(60, "old", key="k")
        self.schedule(0, "new", key="k")
        old.cancel()

    actor.tell(act)
    assert heard.get(timeout=DEADLINE) == "new"


def test_the_end_of_an_actor_cancels_its_timers_and_its_successor_hears_none(system, recorder):
    def act(self):
        self.schedule(3600, "never")
        self.schedule(0, "in the mailbox")
        wait_until(lambda: len(self.actor_inbox) == 1)
        raise ValueError

    ref = system.spawn(Clockwork, "/recorder/c", parent=recorder[0])
    ref.tell(act)
    report = recorder[1].get(timeout=DEADLINE)
    assert report.mailbox.empty()
    assert not any(handle.active for _, _, handle in system.timers._heap)


def test_a_timer_message_that_raises_ends_the_actor(system, recorder):
    ref = system.spawn(Clockwork, "/recorder/c", parent=recorder[0])
    ref.tell(lambda self: self.schedule(0, lambda self: 1 / 0))
    assert recorder[1].get(timeout=DEADLINE).failure.type == "ZeroDivisionError"
