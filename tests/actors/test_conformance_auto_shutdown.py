"""Supervision conformance, O43 to O49: significant children and supervisors that end with them."""

from __future__ import annotations

import pytest
from conformance_support import OFTEN, Fail, Over, Quit, dead, plan

from actors.child_plan import ChildPlan, RemoveChild
from actors.supervising import SupervisingActor
from messages.lifecycle import ChildFailed, ChildStopped
from supervision.spec import AutoShutdown, ChildSpec

ANY, ALL = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT


def _significant(diary, name, restart="transient", **options):
    return plan(diary, name, restart, significant=True, **options)


def test_o43_any_significant_child_that_ends_ends_its_supervisor(world, diary):
    """The others are stopped in order, and the parent hears of a normal end."""
    reports = []
    top = world.system.spawn(Over, "/over", reports)
    plans = [plan(diary, "a"), _significant(diary, "b", "temporary"), _significant(diary, "c")]
    s = world.system.spawn(SupervisingActor, "/over/s", plans, auto_shutdown=ANY, parent=top)
    world.until(lambda: len(diary.of("up")) == 3)
    world.tell(s, "b", Fail(TimeoutError()))
    world.until(lambda: reports)
    assert isinstance(reports[0], ChildStopped)
    assert diary.of("down") == ["c", "a"]


def test_o44_all_significant_waits_for_the_last_of_them(world, diary):
    """The insignificant ones do not keep it alive."""
    s = world.supervise(plan(diary, "a"), _significant(diary, "b"), _significant(diary, "c"), auto_shutdown=ALL)
    world.tell(s, "b", Quit())
    world.until(lambda: world.counts(s).active == 2)
    assert not dead(s)
    world.tell(s, "c", Quit())
    world.until(lambda: dead(s))
    assert diary.of("down") == ["b", "c", "a"]


@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
def test_o45_a_significant_child_that_its_supervisor_stopped_does_not_count(world, diary, auto_shutdown):
    """Only an end by itself is a sign."""
    s = world.supervise(plan(diary, "a"), _significant(diary, "b"), auto_shutdown=auto_shutdown)
    world.ask(s, RemoveChild("b"))
    world.until(lambda: diary.of("down") == ["b"])
    assert world.counts(s).active == 1
    assert not dead(s)


def test_o46_a_transient_significant_child_that_fails_is_restarted_instead(world, diary):
    """It has not ended for good."""
    s = world.supervise(_significant(diary, "a"), auto_shutdown=ANY)
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "a") == 2)
    assert world.counts(s).active == 1


def test_o47_a_bystander_that_ends_triggers_nothing(world, diary):
    """Neither a transient one nor a temporary one."""
    s = world.supervise(
        _significant(diary, "a"), plan(diary, "b", "transient"), plan(diary, "c", "temporary"), auto_shutdown=ANY
    )
    world.tell(s, "b", Quit())
    world.tell(s, "c", Fail(TimeoutError()))
    world.until(lambda: world.counts(s).active == 1)
    assert not dead(s)


@pytest.mark.parametrize("significant", [True, False])
def test_o48_a_sub_supervisor_that_shuts_down_ends_the_one_above_only_if_it_is_significant(world, diary, significant):
    """The sign goes up as far as it is meant to."""
    options = {"auto_shutdown": ANY, "intensity": OFTEN}
    spec = ChildSpec("sub", "transient", significant=significant)
    sub = ChildPlan(spec, SupervisingActor, ([_significant(diary, "x")],), options)
    s = world.supervise(plan(diary, "a"), sub, auto_shutdown=ANY)
    world.until(lambda: diary.count("up", "x") == 1)
    world.system.find("/s/sub/x").tell(Quit())
    world.until(lambda: world.system.find("/s/sub") is None)
    if significant:
        world.until(lambda: dead(s))
    else:
        world.until(lambda: world.counts(s).active == 1)
        assert not dead(s)


def test_o49_forbidden_combinations_are_refused(world, diary):
    """A sign that never comes, and one that nobody looks for."""
    with pytest.raises(ValueError, match="a permanent child never ends by itself"):
        ChildSpec("a", "permanent", significant=True)
    with pytest.raises(ValueError, match="this supervisor never shuts down by itself"):
        world.system.spawn(SupervisingActor, "/never", [_significant(diary, "a")])
    assert diary.lines == []


def test_a_significant_child_that_can_not_be_restarted_any_more_is_a_failure_and_no_sign(world, diary):
    """The supervisor escalates: its parent hears of a failure."""
    reports = []
    top = world.system.spawn(Over, "/over", reports)
    plans = [_significant(diary, "a", max_restarts=0)]
    s = world.system.spawn(SupervisingActor, "/over/s", plans, auto_shutdown=ANY, parent=top)
    world.until(lambda: diary.of("up") == ["a"])
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: reports)
    assert isinstance(reports[0], ChildFailed)
