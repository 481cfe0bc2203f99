"""Birth, death and what a parent hears of them."""

import gc
import queue
import threading
import weakref
from dataclasses import dataclass

import pykka
import pytest
from actors_support import DEADLINE, Recorder, wait_until

from actors.base import Actor
from actors.mailbox import Mailbox
from messages.lifecycle import ChildFailed, ChildStopped, Terminated


class Child(Actor):
    """Keeps what it hears in a list of its creator's, and does what it is told."""

    kind = "child"

    def __init__(self, heard=None, gate=None):
        super().__init__()
        self._heard = [] if heard is None else heard
        self._gate = gate

    def on_receive(self, message):
        if message == "hold":
            self._gate.wait(DEADLINE)
        elif isinstance(message, BaseException):
            raise message
        else:
            self._heard.append(message)
        return message


@dataclass(frozen=True)
class FrozenError(Exception):
    """Lets nothing be set on it, but by the interpreter."""

    code: int


class ShyError(Exception):
    """Does not say where it was raised."""

    __traceback__ = property(lambda _self: 1 / 0)


class Parent(Recorder):
    """Starts children, and restarts them on request."""

    def on_receive(self, message):
        if callable(message):
            return message(self)
        return super().on_receive(message)


@pytest.fixture
def parent(system):
    return system.spawn(Parent, "/parent")


@pytest.fixture
def heard(parent):
    return parent._actor_weakref().heard


def spawn(parent, name="child", *args, **kwargs):
    """Let the parent start a child of its own."""
    return parent.ask(lambda actor: actor.spawn(Child, name, *args, **kwargs), timeout=DEADLINE)


# Failures


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (ValueError("bad"), "permanent"),
        (TimeoutError("slow"), "transient"),
        (SystemExit(3), "fatal"),
        (KeyboardInterrupt(), "fatal"),
        (GeneratorExit(), "fatal"),
        (MemoryError(), "fatal"),
        (FrozenError(3), "transient"),
        (ShyError(), "transient"),
    ],
    ids=repr,
)
def test_whatever_escapes_a_tell_ends_this_actor_only_and_is_told_to_its_parent(
    system, parent, heard, error, error_class
):
    sibling = spawn(parent, "sibling")
    spawn(parent).tell(error)
    report = heard.get(timeout=DEADLINE)
    assert isinstance(report, ChildFailed)
    assert (report.path, report.incarnation) == ("/parent/child", 1)
    assert report.error is error
    assert (report.failure.type, report.failure.error_class) == (type(error).__name__, error_class)
    assert report.lifetime >= 0
    assert sibling.ask("still there?", timeout=DEADLINE) == "still there?"
    assert system.find("/parent/child") is None


@pytest.mark.parametrize("error", [ValueError("cannot start"), SystemExit(1)], ids=repr)
def test_a_failing_on_start_calls_on_failure_and_is_told_to_the_parent(system, parent, heard, error):
    cleaned = threading.Event()

    class Unlucky(Actor):
        def on_start(self):
            raise error

        def on_failure(self, *_exc_info):
            cleaned.set()

    ref = parent.ask(lambda actor: actor.spawn(Unlucky, "unlucky"), timeout=DEADLINE)
    report = heard.get(timeout=DEADLINE)
    assert isinstance(report, ChildFailed)
    assert report.error is error
    assert cleaned.is_set()
    assert not ref.is_alive()


def test_a_failing_ask_is_not_told_to_the_parent(parent, heard):
    child = spawn(parent)
    with pytest.raises(ValueError, match="bad"):
        child.ask(ValueError("bad"), timeout=DEADLINE)
    child.stop(timeout=DEADLINE)
    assert isinstance(heard.get(timeout=DEADLINE), ChildStopped)


def test_a_sys_exit_by_ask_ends_the_actor_but_not_the_caller(parent, heard):
    child = spawn(parent)
    with pytest.raises(pykka.ActorDeadError, match="SystemExit") as caught:
        child.ask(SystemExit(1), timeout=DEADLINE)
    assert isinstance(caught.value.__cause__, SystemExit)
    assert isinstance(heard.get(timeout=DEADLINE), ChildFailed)


@pytest.mark.parametrize("error", [RuntimeError("hook"), SystemExit(1)], ids=repr)
def test_hooks_that_fail_do_not_keep_an_actor_from_ending(system, parent, heard, log, error):
    class BadHooks(Child):
        def on_stop(self):
            raise error

        def on_failure(self, *_exc_info):
            raise error

    stopping = parent.ask(lambda actor: actor.spawn(BadHooks, "stopping"), timeout=DEADLINE)
    assert stopping.stop(timeout=DEADLINE)
    assert isinstance(heard.get(timeout=DEADLINE), ChildStopped)
    parent.ask(lambda actor: actor.spawn(BadHooks, "failing"), timeout=DEADLINE).tell(ValueError("first"))
    assert str(heard.get(timeout=DEADLINE).error) == "first"
    assert [fields["hook"] for _, fields in log.named("actor_hook_failed")] == ["on_stop", "on_failure"]


def test_a_crash_is_logged_with_its_place_and_class(system, parent, heard, log):
    spawn(parent).tell(ValueError("bad\x1b[0m"))
    heard.get(timeout=DEADLINE)
    ((level, fields),) = log.named("actor_crashed")
    assert level == "error"
    assert fields["actor"] == "/parent/child"
    assert (fields["kind"], fields["error_type"], fields["error_class"]) == ("child", "ValueError", "permanent")
    assert fields["error_message"] == "bad [0m"
    assert "test_actors_lifecycle.py" in fields["where"]


def test_births_and_orderly_ends_are_logged_at_debug(parent, heard, log):
    spawn(parent).stop(timeout=DEADLINE)
    assert ("debug", "/parent/child") in [(level, f["actor"]) for level, f in log.named("actor_started")]
    assert ("debug", "/parent/child") in [(level, f["actor"]) for level, f in log.named("actor_stopped")]
    assert log.named("actor_crashed") == []


def test_a_log_that_fails_is_counted_and_work_goes_on():
    from actors.system import ActorSystem

    def broken(event, *, level="info", **fields):
        raise OSError("pipe closed")

    system = ActorSystem(log=broken)
    assert system.spawn(Child, "/c").ask("hi", timeout=DEADLINE) == "hi"
    assert system.stop(DEADLINE) == []
    assert system.log_failures >= 2


def test_log_adds_the_path(system, log):
    class Talker(Actor):
        def on_receive(self, message):
            self.log("said", level="warning", text_length=message)

    system.spawn(Talker, "/talker").ask(3, timeout=DEADLINE)
    assert log.named("said") == [("warning", {"actor": "/talker", "text_length": 3})]


# Ends


def test_an_orderly_end_is_told_to_the_parent(parent, heard):
    assert spawn(parent, incarnation=4).stop(timeout=DEADLINE)
    report = heard.get(timeout=DEADLINE)
    assert isinstance(report, ChildStopped)
    assert (report.path, report.incarnation) == ("/parent/child", 4)


@pytest.mark.parametrize("end", ["stop", "crash"])
def test_the_end_of_an_actor_ends_everything_below_it_first(system, recorder, end):
    order = []

    class Branch(Actor):
        def __init__(self, depth):
            super().__init__()
            self._depth = depth

        def on_start(self):
            if self._depth:
                for name in "ab":
                    self.spawn(Branch, name, self._depth - 1)

        def on_receive(self, message):
            raise message

        def on_stop(self):
            order.append(self.path)

    root = system.spawn(Branch, "/recorder/root", 3, parent=recorder[0])
    wait_until(lambda: len(system.tree.rows()) == 1 + 15)
    if end == "stop":
        root.stop(timeout=DEADLINE)
        assert order[-1] == "/recorder/root"
    else:
        root.tell(ValueError())
    report = recorder[1].get(timeout=DEADLINE)
    assert isinstance(report, ChildStopped if end == "stop" else ChildFailed)
    assert [row["path"] for row in system.tree.rows()] == ["/recorder"]
    assert all(order.index(path) > order.index(below) for path in order for below in order if below != path
               and below.startswith(path + "/"))  # fmt: skip


def test_a_parent_that_ends_waits_for_a_busy_child_and_is_shown_as_stopping(system, recorder):
    gate = threading.Event()
    parent = system.spawn(Parent, "/recorder/p", parent=recorder[0])
    child = spawn(parent, "c", None, gate)
    child.tell("hold")
    ending = parent.stop(block=False)
    wait_until(lambda: any(row["state"] == "stopping" for row in system.tree.rows()))
    with pytest.raises(pykka.Timeout):
        ending.get(timeout=0.01)
    late = parent.ask("too late", block=False)
    parent.tell("for the successor")
    gate.set()
    report = recorder[1].get(timeout=DEADLINE)
    assert not child.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        late.get(timeout=DEADLINE)
    assert [envelope.message for envelope in report.mailbox.drain()] == ["for the successor"]


def test_a_parent_does_not_wait_for_a_child_that_is_never_born(system, recorder):
    inside, gate = threading.Event(), threading.Event()

    class Unborn(Actor):
        def __init__(self):
            inside.set()
            gate.wait(DEADLINE)
            raise LookupError

    ref = system.spawn(Child, "/recorder/p", parent=recorder[0])

    def birth():
        with pytest.raises(LookupError):
            system.spawn(Unborn, "/recorder/p/c", parent=ref)

    midwife = threading.Thread(target=birth)
    midwife.start()
    assert inside.wait(DEADLINE)
    ending = ref.stop(block=False)
    wait_until(lambda: [row["state"] for row in system.tree.rows()][1] == "stopping")
    gate.set()
    assert ending.get(timeout=DEADLINE)
    midwife.join(DEADLINE)


def test_trees_that_end_while_everybody_talks_end_once_and_completely(system, recorder):
    """Reports of children, messages and orders to end all meet in the same mailboxes."""
    for round_number in range(30):
        parent = system.spawn(Parent, "/recorder/p", parent=recorder[0], incarnation=round_number + 1)
        children = [spawn(parent, f"c{n}") for n in range(8)]

        def talk(children=children, parent=parent):
            for number in range(50):
                for ref in (*children, parent):
                    system.tell(ref, number)

        def crash(children=children):
            for child in children[::2]:
                system.tell(child, ValueError())

        threads = [threading.Thread(target=call) for call in (talk, talk, crash)]
        for thread in threads:
            thread.start()
        parent.stop(block=False)
        report = recorder[1].get(timeout=DEADLINE)
        assert (type(report), report.incarnation) == (ChildStopped, round_number + 1)
        assert [row["path"] for row in system.tree.rows()] == ["/recorder"]
        for thread in threads:
            thread.join(DEADLINE)
    assert recorder[1].empty()


def test_what_comes_before_and_after_a_childs_report_is_kept_in_order(system, recorder):
    gate, inside = threading.Event(), threading.Event()
    ref = system.spawn(Parent, "/recorder/p", parent=recorder[0])
    child = spawn(ref)
    ref.tell(lambda actor: (inside.set(), gate.wait(DEADLINE)))
    assert inside.wait(DEADLINE)
    ref.stop(block=False)
    ref.tell("before")
    assert child.stop(timeout=DEADLINE)  # its report lies between the two
    ref.tell("after")
    gate.set()
    report = recorder[1].get(timeout=DEADLINE)
    assert [envelope.message for envelope in report.mailbox.drain()] == ["before", "after"]


def test_a_late_report_does_not_orphan_the_successor(system, recorder):
    """Somebody else starts the next life before the parent hears of the last one's end."""
    gate, inside = threading.Event(), threading.Event()
    ref = system.spawn(Parent, "/recorder/p", parent=recorder[0])
    child = spawn(ref)
    ref.tell(lambda actor: (inside.set(), gate.wait(DEADLINE)))
    assert inside.wait(DEADLINE)
    assert child.stop(timeout=DEADLINE)
    successor = system.spawn(Child, child.path, parent=ref, incarnation=2)
    gate.set()
    assert isinstance(ref._actor_weakref().heard.get(timeout=DEADLINE), ChildStopped)
    assert successor.ask("alive?", timeout=DEADLINE) == "alive?"
    assert ref.stop(timeout=DEADLINE)
    assert not successor.is_alive()


def test_an_actor_that_is_ending_cannot_get_children(system):
    caught = queue.SimpleQueue()

    class Late(Actor):
        def on_stop(self):
            try:
                self.spawn(Child, "too-late")
            except pykka.ActorDeadError as error:
                caught.put(error)

    ref = system.spawn(Late, "/late")
    ref.stop(timeout=DEADLINE)
    assert "is ending" in str(caught.get(timeout=DEADLINE))
    with pytest.raises(pykka.ActorDeadError, match="is ending"):
        system.spawn(Child, "/late/x", parent=ref)


def test_an_ended_actor_is_not_kept_in_memory(system):
    ref = system.spawn(Child, "/gone")
    actor = ref._actor_weakref
    ref.ask("hi", timeout=DEADLINE)
    ref.stop(timeout=DEADLINE)
    del ref

    def freed():
        gc.collect()
        return actor() is None

    assert isinstance(actor, weakref.ref)
    wait_until(freed)


# Births


def test_a_constructor_that_fails_is_the_spawners_and_leaves_nothing_behind(system, parent):
    class Unborn(Actor):
        def __init__(self):
            super().__init__()
            self.actor_ref.tell("to myself")
            raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        parent.ask(lambda actor: actor.spawn(Unborn, "child"), timeout=DEADLINE)
    assert system.find("/parent/child") is None
    assert [letter.message for letter in system.dead_letters.newest()] == ["to myself"]
    assert spawn(parent).ask("hi", timeout=DEADLINE) == "hi"


def test_a_constructor_that_fails_leaves_the_predecessors_mailbox_usable(system):
    class Unborn(Actor):
        def __init__(self):
            raise LookupError

    mailbox = Mailbox()
    with pytest.raises(LookupError):
        system.spawn(Unborn, "/x", mailbox=mailbox)
    assert system.spawn(Child, "/x", mailbox=mailbox).ask("hi", timeout=DEADLINE) == "hi"


def test_a_path_belongs_to_one_live_actor(system):
    ref = system.spawn(Child, "/one")
    with pytest.raises(ValueError, match="/one"):
        system.spawn(Child, "/one")
    assert system.find("/one") is ref
    with pytest.raises(ValueError, match="belongs to a live actor"):
        system.spawn(Child, "/two", mailbox=ref.actor_inbox)
    ref.stop(timeout=DEADLINE)
    assert system.find("/one") is None
    system.spawn(Child, "/one")


def test_what_an_actor_is_told_about_itself_is_there_before_on_start(system, recorder):
    seen = []

    class Curious(Actor):
        def __init__(self):
            super().__init__()
            seen.append((self.system, self.path, self.parent, self.incarnation))

        def on_start(self):
            seen.append((self.system, self.path, self.parent, self.incarnation))

    system.spawn(Curious, "/recorder/c", parent=recorder[0], incarnation=7).stop(timeout=DEADLINE)
    assert seen == [(system, "/recorder/c", recorder[0], 7)] * 2


# Restarts


def test_messages_behind_a_crash_reach_the_successor_in_order(parent, heard):
    got, gate = [], threading.Event()
    child = spawn(parent, "child", got, gate)
    child.tell("hold")
    child.tell(ValueError("crash"))
    for number in range(100):
        child.tell(number)
    asked = child.ask("asked before the crash", block=False)
    gate.set()
    report = heard.get(timeout=DEADLINE)
    assert len(report.mailbox) == 101
    report.mailbox.put(_envelope(100))  # arrives between two lives
    successor = spawn(parent, "child", got, mailbox=report.mailbox, incarnation=2)
    assert asked.get(timeout=DEADLINE) == "asked before the crash"
    successor.tell(101)
    assert successor.ask("last", timeout=DEADLINE) == "last"
    assert got == [*range(100), "asked before the crash", 100, 101, "last"]
    assert successor.path == child.path
    assert successor.incarnation == 2


def test_messages_survive_two_failing_starts(parent, heard):
    got, starts = [], []

    class Flaky(Child):
        def on_start(self):
            starts.append(self.incarnation)
            if self.incarnation < 3:
                raise ConnectionError("not yet")

    def begin(incarnation, mailbox=None):
        return parent.ask(
            lambda actor: actor.spawn(Flaky, "flaky", got, mailbox=mailbox, incarnation=incarnation), timeout=DEADLINE
        )

    mailbox = Mailbox()
    for number in range(5):
        mailbox.put(_envelope(number))
    begin(1, mailbox)
    for incarnation in (2, 3):
        report = heard.get(timeout=DEADLINE)
        ref = begin(incarnation, report.mailbox)
    assert ref.ask("up?", timeout=DEADLINE) == "up?"
    assert starts == [1, 2, 3]
    assert got == [0, 1, 2, 3, 4, "up?"]


def test_a_stop_that_an_actor_did_not_live_to_see_is_answered_and_does_not_end_its_successor(parent, heard):
    gate = threading.Event()
    child = spawn(parent, "child", None, gate)
    child.tell("hold")
    child.tell(ValueError())
    asked = child.stop(block=False)
    gate.set()
    report = heard.get(timeout=DEADLINE)
    assert asked.get(timeout=DEADLINE) is True
    late = _envelope(_stop_of(child))
    report.mailbox.put(late)
    successor = spawn(parent, "child", mailbox=report.mailbox, incarnation=2)
    assert successor.ask("alive?", timeout=DEADLINE) == "alive?"


def test_what_is_left_without_a_parent_becomes_dead_letters_and_asks_are_answered(system):
    gate = threading.Event()
    child = system.spawn(Child, "/orphan", None, gate)
    child.tell("hold")
    child.tell(ValueError())
    child.tell("told")
    asked = child.ask("asked", block=False)
    gate.set()
    with pytest.raises(pykka.ActorDeadError):
        asked.get(timeout=DEADLINE)
    assert [(x.address, x.message) for x in system.dead_letters.newest()] == [("/orphan", "told")]
    child.actor_inbox.put(_envelope("raced in late"))
    assert [x.message for x in system.dead_letters.newest()] == ["told", "raced in late"]
    assert not child.actor_inbox.offer(_envelope("refused"))


def test_a_discarded_mailbox_becomes_dead_letters(system, parent, heard):
    child = spawn(parent)
    mailbox = Mailbox()
    mailbox.put(_envelope("left over"))
    parent.ask(lambda actor: actor.discard(mailbox, child.path), timeout=DEADLINE)
    (letter,) = system.dead_letters.newest()
    assert (letter.address, letter.message, letter.reason) == (child.path, "left over", "its actor was not restarted")
    with pytest.raises(ValueError, match="closed"):
        mailbox.attach(object(), print)


def test_an_actor_that_does_not_care_makes_dead_letters_of_what_its_children_leave(system):
    gate = threading.Event()

    class Careless(Actor):
        pass

    careless = system.spawn(Careless, "/careless")
    child = system.spawn(Child, "/careless/child", None, gate, parent=careless)
    child.tell("hold")
    child.tell(ValueError())
    child.tell("left over")
    gate.set()
    wait_until(lambda: [x.message for x in system.dead_letters.newest()] == ["left over"])


def test_children_of_an_earlier_life_do_not_disturb_the_successor(system, recorder):
    """Their reports are settled before their parent's own end is told."""
    ref = system.spawn(Parent, "/recorder/p", parent=recorder[0])
    for number in range(20):
        spawn(ref, f"c{number}").tell(ValueError())
    ref.tell(lambda actor: 1 / 0)
    report = recorder[1].get(timeout=DEADLINE)
    successor = system.spawn(Parent, "/recorder/p", parent=recorder[0], mailbox=report.mailbox, incarnation=2)
    successor.ask(lambda actor: None, timeout=DEADLINE)
    assert successor._actor_weakref().heard.empty()
    assert [row["path"] for row in system.tree.rows()] == ["/recorder", "/recorder/p"]


# Death watch


def test_a_watcher_hears_once_of_the_end_with_its_reason(system, recorder):
    watcher, heard = recorder
    for path, message, reason in [("/a", ValueError("bad"), "ValueError: bad"), ("/b", None, "stopped")]:
        ref = system.spawn(Child, path)
        system.watch(watcher, ref)
        system.watch(watcher, ref)
        if message is None:
            ref.stop(timeout=DEADLINE)
        else:
            ref.tell(message)
        assert heard.get(timeout=DEADLINE) == Terminated(path, reason)
    assert heard.empty()


def test_watching_the_dead_answers_at_once_even_if_a_successor_has_the_path(system, parent, heard):
    gone = spawn(parent)
    gone.stop(timeout=DEADLINE)
    heard.get(timeout=DEADLINE)
    spawn(parent, incarnation=2)
    parent.ask(lambda actor: actor.watch(gone), timeout=DEADLINE)
    assert heard.get(timeout=DEADLINE).path == "/parent/child"


def test_unwatch_ends_the_watch(system, recorder):
    watcher, heard = recorder
    ref = system.spawn(Child, "/a")
    system.watch(watcher, ref)
    watcher._actor_weakref().unwatch(ref)
    ref.stop(timeout=DEADLINE)
    watcher.ask("flush", timeout=DEADLINE)
    assert heard.get(timeout=DEADLINE) == "flush"


def _envelope(message):
    from actors.envelope import Envelope

    return Envelope(message)


def _stop_of(ref):
    from actors.ref import Stop

    return Stop(ref)
