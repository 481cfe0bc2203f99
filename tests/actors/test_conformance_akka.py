"""Supervision conformance, A1 to A15: what Akka's supervision promises, in our form."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pykka
import pytest
from conformance_support import (
    AT_ONCE,
    OFTEN,
    QUICK,
    Fail,
    Over,
    Probe,
    Quit,
    Recall,
    Remember,
    answer,
    dead,
    plan,
)

from actors.address import STASH_FULL
from actors.base import Actor
from actors.child_plan import ChildPlan, GaveUp, NotAdded
from actors.supervising import SupervisingActor
from messages.lifecycle import ChildFailed, NeededActorEnded
from supervision.backoff import Backoff
from supervision.children import ChildState
from supervision.decide import Escalate, History, Restart, decide
from supervision.directives import OnError, rule_for
from supervision.errors import Classified, ErrorClass
from supervision.intensity import Intensity, add_restart
from supervision.spec import ChildSpec, RestartType

SLOW = Backoff(min_backoff=3600.0, max_backoff=3600.0)
CRASH = Classified("TimeoutError", ErrorClass.TRANSIENT, "")


class Plain(Actor):
    """Has a child and no strategy."""

    def __init__(self, diary):
        super().__init__()
        self.diary = diary

    def on_start(self):
        self.spawn(Probe, "a", self.diary, "a")


def test_a01_without_a_strategy_an_actor_that_fails_stays_stopped(world, diary):
    """Its messages are dead letters; the one above lives on."""
    top = world.system.spawn(Plain, "/plain", diary)
    world.until(lambda: diary.of("up") == ["a"])
    child = world.system.find("/plain/a")
    child.tell(Fail(TimeoutError()))
    world.until(lambda: dead(child))
    if world.virtual:
        world.time.pass_time(3600.0)
    assert world.system.find("/plain/a") is None
    assert top.is_alive()
    assert diary.count("made", "a") == 1


LAYERS = (
    {LookupError: OnError.STOP},
    {KeyError: OnError.RESUME, OSError: OnError.RESTART, LookupError: OnError.RESTART},
)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyError(), OnError.RESUME),  # named in the outer layer, nearer than the inner layer's LookupError
        (IndexError(), OnError.STOP),  # both layers know LookupError: the inner one decides
        (ConnectionError(), OnError.RESTART),
        (ValueError(), None),
    ],
)
def test_a02_the_most_specific_class_of_all_nested_rules_wins(error, says):
    """Pure."""
    assert rule_for(LAYERS, error) is says


def test_a02_rules_stop_restart_or_resume_by_class(world, diary):
    """A rule goes before the spec: a permanent child can say that an error is its end."""
    rules = ({KeyError: OnError.STOP, ValueError: OnError.RESTART, ZeroDivisionError: OnError.RESUME},)
    s = world.supervise(plan(diary, "a", rules=rules), plan(diary, "t", "transient", rules=rules))
    world.tell(s, "a", Fail(ZeroDivisionError()))
    world.tell(s, "t", Fail(ValueError("permanent by class, and still restarted")))
    world.until(lambda: diary.count("up", "t") == 2 and diary.count("failed", "a") == 1)
    assert diary.count("made", "a") == 1
    world.tell(s, "a", Fail(KeyError()))
    world.until(lambda: diary.count("failed", "a") == 2 and world.counts(s).active == 1)
    assert world.rows(s)["a"].state is ChildState.STOPPED
    assert diary.count("made", "a") == 1


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError()])
def test_a03_a_fatal_error_is_not_resumed_and_not_restarted(world, diary, error):
    """It is contained, for a thread is shared by all; but it goes up instead of being tried again."""
    assert rule_for(({BaseException: OnError.RESUME},), SystemExit()) is None
    s = world.supervise(plan(diary, "a"))
    world.tell(s, "a", Fail(error))
    world.until(lambda: dead(s))
    assert diary.count("made", "a") == 1
    assert world.log.named("actor_escalated")


def test_a04_a_restart_resets_the_state_and_resuming_keeps_it(world, diary):
    """A new life begins with `__init__`."""
    s = world.supervise(plan(diary, "a", rules=({ZeroDivisionError: OnError.RESUME},)))
    address = world.address(s, "a")
    address.tell(Remember("it"))
    address.tell(Fail(ZeroDivisionError()))
    assert world.get(address.ask(Recall())) == "it"
    address.tell(Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "a") == 2)
    assert world.get(address.ask(Recall())) is None
    assert [f["error_type"] for _, f in world.log.named("actor_resumed")] == ["ZeroDivisionError"]


def test_a05_the_limit_holds_within_a_window_that_slides(world, diary):
    """A limit of 0 allows no restart at all."""
    s = world.supervise(plan(diary, "a", backoff=AT_ONCE), intensity=Intensity(0, 1.0))
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: dead(s))
    assert diary.count("made", "a") == 1
    times, verdicts = (), []
    for now in (0.0, 4.0, 6.0, 10.5, 11.0):
        times, allowed = add_restart(times, now, Intensity(2, 5.0))
        verdicts.append(allowed)
    assert verdicts == [True, True, True, True, False]  # 11.0 sees 6.0 and 10.5


def test_a06_a_failure_in_the_first_and_in_a_later_set_up(world, diary):
    """`on_start` failing is a failure of the child like any other; `__init__` failing first is the caller's."""
    diary.failing_starts = {"a": 1}
    diary.failing_inits = {"b": 1}
    s = world.supervise()
    world.add(s, plan(diary, "a"))
    assert isinstance(world.add(s, plan(diary, "b")), NotAdded)
    world.until(lambda: diary.count("up", "a") == 1)
    assert diary.count("made", "a") == 2
    diary.failing_starts, diary.failing_inits = {"a": 1}, {"a": 1}
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "a") == 2)
    assert (diary.of("init failed"), diary.count("start failed", "a")) == (["b", "a"], 2)


class Nest(Probe):
    """A probe with a child of its own."""

    def on_start(self):
        self.spawn(Probe, "egg", self.diary, f"egg of {self.name}")
        super().on_start()


def test_a07_what_is_below_a_failed_actor_has_ended_before_its_next_life_begins(world, diary):
    """So two lives never have children at the same place."""
    s = world.supervise(plan(diary, "a", backoff=AT_ONCE, actor_class=Nest))
    world.until(lambda: diary.count("up", "egg of a") == 1)
    diary.stubborn = {"egg of a"}
    egg = world.system.find("/s/a/egg")
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: "egg of a" in diary.of("asked"))
    if world.virtual:
        world.time.pass_time(100.0)
    assert world.counts(s).active == 1
    assert diary.count("made", "a") == 1
    egg.tell(Quit())
    world.until(lambda: diary.count("up", "a") == 2)
    lines = [line[:2] for line in diary.lines if line[0] in ("made", "down")]
    assert lines[:4] == [("made", "a"), ("made", "egg of a"), ("down", "egg of a"), ("made", "a")]


def test_a07_what_shall_outlive_a_restart_is_a_sibling(world, diary):
    """Nothing outlives its parent here: what is to be kept stands beside it, under one_for_one."""
    s = world.supervise(plan(diary, "keeper"), plan(diary, "a"))
    world.tell(s, "keeper", Remember("it"))
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "a") == 2)
    assert world.get(world.address(s, "keeper").ask(Recall())) == "it"


def test_a08_messages_during_a_restart_are_kept_in_order_through_two_failing_starts(world, diary):
    """Those it had not handled come first, then those sent while it was away."""
    s = world.supervise(plan(diary, "a"))
    address = world.address(s, "a")
    diary.failing_starts, diary.failing_inits = {"a": 1}, {"a": 1}
    address.tell(1)
    address.tell(Fail(TimeoutError()))
    for number in (2, 3, 4):
        address.tell(number)
    world.until(lambda: diary.count("failed", "a") == 1)
    for number in (5, 6):
        address.tell(number)
    world.until(lambda: len(diary.heard("a")) == 6)
    assert diary.heard("a") == [1, 2, 3, 4, 5, 6]
    assert diary.count("up", "a") == 2


def test_a09_a_full_stash_drops_with_an_event_that_has_message_and_address(world, diary):
    """The sender is told too; what was kept stays."""
    s = world.supervise(plan(diary, "a", backoff=SLOW, stash_limit=3))
    address = world.address(s, "a")
    address.tell(Fail(TimeoutError()))
    world.until(lambda: diary.count("failed", "a") == 1 and world.counts(s).waiting == 1)
    assert [address.tell(number) for number in range(5)] == [True, True, True, False, False]
    letters = world.system.dead_letters.newest()
    assert [(letter.address, letter.message) for letter in letters] == [("/s/a", 3), ("/s/a", 4)]
    assert world.system.dead_letters.by_reason[STASH_FULL] == 2
    assert world.rows(s)["a"].waiting == 3


def test_a10_backoff_grows_to_its_ceiling_with_jitter_and_is_safe_at_any_count(world, diary):
    """Min * 2**n to max."""
    backoff = Backoff(min_backoff=0.5, max_backoff=8.0, factor=2.0, random_factor=0.5)
    assert [backoff.delay(k, 0.0) for k in range(7)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert backoff.delay(0, 0.999) == pytest.approx(0.5 * 1.4995)
    for huge in (2**31 - 1, 2**31, 2**31 + 1, 2**63):
        assert backoff.delay(huge, 0.0) == 8.0
        assert Backoff(0.0, 0.0).delay(huge, 0.5) == 0.0
    steps = Backoff(min_backoff=0.001, max_backoff=0.008, random_factor=0.0)
    s = world.supervise(plan(diary, "a", backoff=steps))
    born = []
    for number in range(1, 7):
        world.until(lambda n=number: diary.count("up", "a") == n)
        born.append(world.system.monotonic())
        world.tell(s, "a", Fail(TimeoutError()))
    waits = [later - earlier for earlier, later in pairwise(born)]
    due = [0.001, 0.002, 0.004, 0.008, 0.008]
    if world.virtual:
        assert waits == pytest.approx(due)
    else:
        assert all(wait >= least for wait, least in zip(waits, due, strict=True))


def test_a11_more_restarts_than_allowed_in_a_row_end_the_child_and_go_up(world, diary):
    """The failure lists what happened."""
    reports = []
    top = world.system.spawn(Over, "/over", reports)
    plans = [plan(diary, "a", backoff=AT_ONCE, max_restarts=2)]
    s = world.system.spawn(SupervisingActor, "/over/s", plans, parent=top, intensity=OFTEN)
    for number in range(1, 4):
        world.until(lambda n=number: diary.count("up", "a") == n)
        world.tell(s, "a", Fail(TimeoutError(f"failure {number}")))
    world.until(lambda: reports)
    assert isinstance(reports[0], ChildFailed)
    assert isinstance(reports[0].error, GaveUp)
    said = str(reports[0].error)
    assert "restarted 2 times in a row without success" in said
    assert [said.index(f"failure {n}") for n in (3, 2, 1)] == sorted(said.index(f"failure {n}") for n in (3, 2, 1))
    assert diary.count("made", "a") == 3


def test_a12_quiet_time_resets_the_backoff_by_default_after_the_mean_of_minimum_and_maximum(world, diary):
    """Each level counts for itself."""
    assert Backoff(2.0, 10.0).reset_after == 6.0
    assert Backoff(2.0, 10.0, reset_backoff_after=inf).reset_after == inf
    steps = Backoff(min_backoff=0.01, max_backoff=0.03, random_factor=0.0)
    inner = [plan(diary, "x", backoff=steps, max_restarts=1, quiet_resets=True)]
    spec = ChildSpec("in", backoff=steps, max_restarts=1, retry_permanent_errors=True)
    s = world.supervise(ChildPlan(spec, SupervisingActor, (inner,), {"intensity": OFTEN}))
    for number in range(1, 5):
        world.until(lambda n=number: diary.count("up", "x") == n)
        quiet = world.system.monotonic() + steps.reset_after * 1.5
        if world.virtual:
            world.time.pass_time(steps.reset_after * 1.5)
        else:
            world.until(lambda t=quiet: world.system.monotonic() > t)
        world.system.find("/s/in/x").tell(Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "x") == 5)
    assert world.rows(s)["in"].restarts == 0  # the one above never failed: only the one below was counted
    spec = ChildSpec("y", backoff=steps, max_restarts=1)
    history = History(failures=1, last_failure_at=0.0, started_at=0.0)
    assert isinstance(decide(spec, CRASH, history, 100.0, 0.0), Escalate)  # without the reset
    again = ChildSpec("y", RestartType.PERMANENT, steps, max_restarts=1, quiet_resets=True)
    assert isinstance(decide(again, CRASH, history, 0.02, 0.0), Restart)
    assert isinstance(decide(again, CRASH, history, 0.019, 0.0), Escalate)


def test_a13_the_log_level_rises_after_so_many_failures(world, diary):
    """The first ones are warnings."""
    s = world.supervise(plan(diary, "a", backoff=AT_ONCE, quiet_failures=2))
    for number in range(1, 5):
        world.until(lambda n=number: diary.count("up", "a") == n)
        world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "a") == 5)
    assert [level for level, _ in world.log.named("child_failed")] == ["warning", "warning", "error", "error"]


class Dependent(Probe):
    """Cannot go on without another actor."""

    def on_start(self):
        super().on_start()
        self.watch(self.system.find("/s/b"), needed=True)


def test_a14_the_death_of_a_watched_actor_is_a_failure_one_can_supervise(world, diary):
    """Akka's DeathPactException."""
    rules = ({NeededActorEnded: OnError.RESTART},)
    s = world.supervise(plan(diary, "b"), plan(diary, "a", actor_class=Dependent, rules=rules, backoff=QUICK))
    world.tell(s, "b", Quit())
    world.until(lambda: diary.count("up", "a") >= 2 and diary.count("up", "b") == 2)
    world.until(lambda: world.counts(s).active == 2)
    causes = [fields["cause"] for _, fields in world.log.named("child_failed")]
    assert causes[0].startswith("NeededActorEnded: /s/b has ended")


def test_a14_what_is_not_watched_any_more_may_end(world, diary):
    """And what was watched without being needed is only told."""

    class Free(Dependent):
        def on_start(self):
            super().on_start()
            self.unwatch(self.system.find("/s/b"))

    s = world.supervise(plan(diary, "b", "temporary"), plan(diary, "a", actor_class=Free))
    world.tell(s, "b", Quit())
    world.until(lambda: world.counts(s).specs == 1)
    assert world.get(world.address(s, "a").ask("still there")) == "still there"
    assert world.log.named("child_failed") == []
    assert diary.count("made", "a") == 1


def test_a15_an_ask_while_backing_off_gets_an_answer(world, diary):
    """From the next life; or an error at once when too many wait, and later when there is no next life."""
    s = world.supervise(plan(diary, "a", stash_limit=1), plan(diary, "b", max_restarts=1, backoff=AT_ONCE))
    address = world.address(s, "a")
    diary.failing_starts["a"] = 1
    address.tell(Fail(TimeoutError()))
    world.until(lambda: diary.count("failed", "a") == 1)
    assert world.get(address.ask("hello")) == "hello"
    assert diary.heard("a") == ["hello"]
    slow = world.supervise(plan(diary, "c", backoff=SLOW, stash_limit=1), name="/slow")
    address = world.address(slow, "c")
    address.tell(Fail(TimeoutError()))
    world.until(lambda: diary.count("failed", "c") == 1 and world.counts(slow).waiting == 1)
    kept, refused = address.ask("kept"), address.ask("refused")
    assert isinstance(answer(refused), pykka.ActorDeadError)
    slow.stop(block=False)
    world.until(lambda: dead(slow))
    assert isinstance(answer(kept), pykka.ActorDeadError)
    assert isinstance(answer(address.ask("after the end")), pykka.ActorDeadError)
