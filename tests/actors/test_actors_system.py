"""The system: entrance, dead letters, the live tree, and the end of everything."""

import threading

import pykka
import pytest
from actors_support import DEADLINE, Recorder, wait_until

from actors.base import Actor
from actors.dead_letters import MAX_REASONS, DeadLetters
from actors.system import ActorSystem


class Holder(Actor):
    """Holds on to its dispatcher thread until the gate opens."""

    kind = "holder"

    def __init__(self, gate):
        super().__init__()
        self._gate = gate

    def on_receive(self, message):
        self._gate.wait(DEADLINE)


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


# Telling


def test_offer_refuses_when_the_mailbox_is_full_and_tell_does_not(gate):
    system = ActorSystem(mailbox_limit=2)
    ref = system.spawn(Holder, "/h", gate)
    ref.tell("current")
    wait_until(ref.actor_inbox.empty)
    assert [system.offer(ref, n) for n in range(3)] == [True, True, False]
    system.tell(ref, "own")
    assert len(ref.actor_inbox) == 3
    gate.set()
    assert system.stop(DEADLINE) == []


def test_the_dead_refuse_an_offer_and_make_dead_letters_of_what_they_are_told(system):
    ref = system.spawn(Recorder, "/gone")
    ref.stop(timeout=DEADLINE)
    with pytest.raises(pykka.ActorDeadError):
        system.offer(ref, "x")
    system.tell(ref, "y")
    (letter,) = system.dead_letters.newest()
    assert (letter.address, letter.reason, letter.message) == ("/gone", "its actor has ended", "y")


def test_tell_parent_reaches_the_parent_or_the_dead_letters(system, recorder):
    class Teller(Actor):
        def on_receive(self, message):
            self.tell_parent(message)

    system.spawn(Teller, "/recorder/t", parent=recorder[0]).tell("to the parent")
    assert recorder[1].get(timeout=DEADLINE) == "to the parent"
    system.spawn(Teller, "/orphan").ask("to nobody", timeout=DEADLINE)
    assert system.dead_letters.newest()[-1].message == "to nobody"


def test_dead_letters_are_bounded_counted_and_told():
    letters, heard = DeadLetters(limit=3, now_ms=lambda: 42), []
    letters.listen(heard.append)
    letters.listen(lambda letter: 1 / 0)
    for number in range(5):
        letters.add("/a", "full", number)
    assert [(letter.number, letter.message, letter.at_ms) for letter in letters.newest()] == [
        (3, 2, 42),
        (4, 3, 42),
        (5, 4, 42),
    ]
    assert (len(letters), letters.total, letters.by_reason["full"]) == (3, 5, 5)
    assert len(heard) == 5
    assert letters.listener_failures == 5


def test_reasons_that_vary_do_not_grow_the_table_for_ever():
    letters = DeadLetters()
    for number in range(MAX_REASONS + 50):
        letters.add("/a", f"reason {number}", None)
    assert letters.by_reason["other"] == 50
    assert len(letters.by_reason) == MAX_REASONS + 1


# The tree

COLUMNS = ["path", "kind", "state", "mailbox", "oldest_age", "current", "current_age", "restarts", "last_cause"]


def test_rows_say_what_every_actor_is_doing(system, gate):
    busy = system.spawn(Holder, "/busy", gate, incarnation=3)
    system.spawn(Recorder, "/idle")
    busy.tell("current")
    busy.tell("waiting")
    wait_until(lambda: len(busy.actor_inbox) == 1)
    rows = {row["path"]: row for row in system.tree.rows()}
    assert list(rows) == ["/busy", "/idle"]
    assert all(list(row) == COLUMNS for row in rows.values())
    row = rows["/busy"]
    assert (row["kind"], row["state"], row["current"], row["mailbox"]) == ("holder", "running", "str", 1)
    assert row["oldest_age"] >= 0
    assert row["current_age"] >= 0
    assert row["restarts"] == 2
    assert rows["/idle"] == {**dict.fromkeys(COLUMNS), "path": "/idle", "kind": "Recorder", "state": "idle",
                             "mailbox": 0, "restarts": 0}  # fmt: skip


def test_an_actor_in_its_on_start_is_starting(system, gate):
    class Slow(Actor):
        def on_start(self):
            gate.wait(DEADLINE)

    system.spawn(Slow, "/slow")
    assert [row["state"] for row in system.tree.rows()] == ["starting"]
    gate.set()
    wait_until(lambda: system.tree.rows()[0]["state"] == "idle")


def test_a_child_that_waits_for_its_restart_stays_visible_and_keeps_its_figures(system):
    ref = system.spawn(Recorder, "/p")
    system.tree.note_backing_off("/p/c", "agent", 2, "TimeoutError: slow")
    waiting = system.tree.rows()[1]
    assert list(waiting) == COLUMNS
    assert (waiting["path"], waiting["kind"], waiting["state"]) == ("/p/c", "agent", "backing_off")
    child = system.spawn(Recorder, "/p/c", parent=ref, incarnation=3)
    row = system.tree.rows()[1]
    assert (row["state"], row["restarts"], row["last_cause"]) == ("idle", 2, "TimeoutError: slow")
    child.stop(timeout=DEADLINE)
    assert [row["path"] for row in system.tree.rows()] == ["/p"]


def test_a_note_goes_when_it_is_forgotten_or_the_actor_above_ends(system):
    ref = system.spawn(Recorder, "/p")
    for name in "ab":
        system.tree.note_backing_off(f"/p/{name}", "agent", 1, None)
    system.tree.forget("/p/a")
    system.tree.forget("/p/unknown")
    assert [row["path"] for row in system.tree.rows()] == ["/p", "/p/b"]
    ref.stop(timeout=DEADLINE)
    assert system.tree.rows() == []
    assert system.tree._below == {}


def test_a_crash_keeps_the_note_for_the_next_life(system, recorder):
    class Raiser(Actor):
        def on_receive(self, message):
            raise message

    ref = system.spawn(Raiser, "/recorder/c", parent=recorder[0])
    system.tree.note_backing_off("/recorder/c", "agent", 1, "first")
    ref.tell(ValueError("second"))
    recorder[1].get(timeout=DEADLINE)
    assert [row["last_cause"] for row in system.tree.rows()] == [None, "first"]


# The end


def test_stop_ends_everything_and_nothing_can_be_started_after(recorder):
    system = ActorSystem()
    refs = [system.spawn(Recorder, f"/r{n}") for n in range(10)]
    assert system.stop(DEADLINE) == []
    assert not any(ref.is_alive() for ref in refs)
    with pytest.raises(pykka.ActorDeadError, match="is stopping"):
        system.spawn(Recorder, "/late")
    assert system.stop(DEADLINE) == []


def test_stop_names_what_does_not_end_in_time(gate):
    system = ActorSystem()
    parent = system.spawn(Recorder, "/parent")
    child = system.spawn(Holder, "/parent/child", gate, parent=parent)
    system.spawn(Recorder, "/fine")
    child.tell("hold")
    wait_until(child.actor_inbox.empty)
    assert system.stop(0.05) == ["/parent", "/parent/child"]
    assert [row["state"] for row in system.tree.rows()] == ["stopping", "running"]
    gate.set()
    wait_until(lambda: not child.is_alive())


def test_stop_does_not_wait_for_a_backlog_and_makes_dead_letters_of_it(gate):
    system = ActorSystem()
    ref = system.spawn(Holder, "/h", gate)
    ref.tell("current")
    wait_until(ref.actor_inbox.empty)
    for number in range(3):
        ref.tell(number)
    stopper = threading.Thread(target=system.stop, args=(DEADLINE,))
    stopper.start()
    wait_until(lambda: len(ref.actor_inbox) == 4)
    gate.set()
    stopper.join(DEADLINE)
    assert [letter.message for letter in system.dead_letters.newest()] == [0, 1, 2]


def test_a_system_leaves_no_threads_behind():
    before = set(threading.enumerate())
    system = ActorSystem()
    system.spawn(Recorder, "/r")
    system.timers.schedule(3600, print)
    assert system.stop(DEADLINE) == []
    assert set(threading.enumerate()) <= before
