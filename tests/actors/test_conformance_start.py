"""Supervision conformance, O1 to O6: starting children."""

from __future__ import annotations

import pytest
from conformance_support import OFTEN, Over, Probe, dead, plan

from actors.base import Actor
from actors.child_plan import Added, ChildPlan, NotAdded, StartAgain
from actors.supervising import SupervisingActor
from messages.lifecycle import ChildFailed
from supervision.backoff import Backoff
from supervision.children import ChildState, Roster, added, declined
from supervision.intensity import Intensity
from supervision.spec import ChildSpec, RestartType


def test_o01_a_child_that_declines_to_start_is_kept_without_a_life_or_forgotten_if_temporary(world, diary):
    """The permanent one can be started later, when it has something to do."""
    diary.declining = {"p", "t"}
    s = world.supervise(plan(diary, "p"), plan(diary, "t", "temporary"))
    rows = world.rows(s)
    assert {name: row.state for name, row in rows.items()} == {"p": ChildState.STOPPED}
    assert world.counts(s).active == 0
    diary.declining = set()
    assert isinstance(world.ask(s, StartAgain("p")), Added)
    world.until(lambda: diary.count("up", "p") == 1)
    assert "is running" in world.ask(s, StartAgain("p")).reason
    roster, _ = added(Roster(), ChildSpec("x"))
    assert declined(roster, "x")[0].get("x").state is ChildState.STOPPED


def test_o02_the_error_of_a_start_is_returned_to_the_caller_and_no_child_is_left(world, diary):
    """Nothing is restarted either: who asked decides."""
    s = world.supervise()
    diary.failing_inits["a"] = 1
    answer = world.add(s, plan(diary, "a"))
    assert isinstance(answer, NotAdded)
    assert isinstance(answer.error, OSError)
    assert world.rows(s) == {}
    assert world.system.find("/s/a") is None
    assert isinstance(world.add(s, plan(diary, "a")), Added)


def test_o03_a_supervisor_whose_own_start_fails_leaves_nothing_running(world, diary):
    """The children that were up are stopped, and the parent hears of a failure."""
    reports = []
    top = world.system.spawn(Over, "/over", reports)
    diary.failing_inits["c"] = 1
    plans = [plan(diary, name) for name in "abc"]
    s = world.system.spawn(SupervisingActor, "/over/s", plans, parent=top)
    world.until(lambda: reports)
    assert isinstance(reports[0], ChildFailed)
    assert isinstance(reports[0].error, OSError)
    assert diary.of("made") == ["a", "b"]
    assert diary.of("down") == ["b", "a"]
    world.until(lambda: dead(s))
    assert world.system.find("/over/s/a") is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: ChildSpec(""), "id must not be empty"),
        (lambda: ChildSpec("a", max_restarts=-1), "max_restarts must be 0 or more"),
        (lambda: ChildSpec("a", shutdown_timeout=-1.0), "shutdown_timeout must be 0 s or more"),
        (lambda: ChildSpec("a", significant=True), "a permanent child never ends by itself"),
        (lambda: Intensity(-1), "max_restarts must be 0 or more"),
        (lambda: Intensity(1, 0.0), "period must be a positive number"),
        (lambda: Backoff(min_backoff=-1.0), "min_backoff must be 0 s or more"),
        (lambda: Backoff(min_backoff=2.0, max_backoff=1.0), "must not be below min_backoff"),
        (lambda: Backoff(factor=0.5), "factor must be 1 or more"),
        (lambda: Backoff(random_factor=2.0), "random_factor must be between 0 and 1"),
        (lambda: ChildSpec("a", "always"), "'always' is not a valid RestartType"),
    ],
)
def test_o04_a_bad_spec_or_flag_is_refused_with_a_reason_of_its_own(wrong, says):
    """Each names what is wrong."""
    with pytest.raises(ValueError, match=says):
        wrong()


def test_o04_a_bad_strategy_or_auto_shutdown_is_refused(world):
    """Nothing is started."""
    with pytest.raises(ValueError, match="'some' is not a valid Strategy"):
        world.system.spawn(SupervisingActor, "/bad", strategy="some")
    with pytest.raises(ValueError, match="'sometimes' is not a valid AutoShutdown"):
        world.system.spawn(SupervisingActor, "/bad", auto_shutdown="sometimes")


def test_o04_a_duplicate_id_is_refused_when_a_supervisor_is_made_and_later(world, diary):
    """Nothing starts, or nothing more."""
    with pytest.raises(ValueError, match="the id 'a' is in use"):
        world.system.spawn(SupervisingActor, "/twice", [plan(diary, "a"), plan(diary, "a")])
    s = world.supervise(plan(diary, "a"))
    assert "the id 'a' is in use" in world.add(s, plan(diary, "a")).reason
    spec = ChildSpec("b", "transient", significant=True)
    assert "never shuts down by itself" in world.add(s, ChildPlan(spec, Probe, (diary, "b"))).reason
    assert diary.of("made") == ["a"]


def test_o05_the_defaults_are_visible(world, diary):
    """They are OTP's where OTP has them."""
    spec = ChildSpec("a")
    assert (spec.restart, spec.shutdown_timeout, spec.significant) == (RestartType.PERMANENT, 5.0, False)
    assert (Intensity().max_restarts, Intensity().period) == (1, 5.0)
    assert (Backoff().min_backoff, Backoff().max_backoff, Backoff().factor) == (1.0, 30.0, 2.0)
    assert Backoff().reset_after == 15.5
    s = world.supervise(plan(diary, "a"))
    row = world.rows(s)["a"]
    assert (row.restart, row.state, row.incarnation, row.restarts) == ("permanent", "running", 1, 0)


class _StartsItself(SupervisingActor):
    """Starts a child past its roster, before the roster does."""

    def on_start(self):
        self.early = self.spawn(Early, "a")
        super().on_start()


class Early(Actor):
    """A child that is there already."""


def test_o06_a_child_that_has_been_started_already_is_adopted_and_not_doubled(world, diary):
    """From then on it is supervised like any other."""
    s = world.supervise(plan(diary, "a", actor_class=Probe), actor_class=_StartsItself, intensity=OFTEN)
    assert diary.of("made") == []
    assert world.counts(s).active == 1
    early = world.system.find("/s/a")
    early.stop(block=False)
    world.until(lambda: diary.of("up") == ["a"])
    assert world.rows(s)["a"].incarnation == 2
