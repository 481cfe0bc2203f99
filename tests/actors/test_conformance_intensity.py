"""Supervision conformance, O22 to O28: when a supervisor gives up, and what that does to the tree."""

from __future__ import annotations

import pytest
from conformance_support import AT_ONCE, OFTEN, Fail, Over, dead, plan

from actors.child_plan import ChildPlan, GaveUp
from actors.supervising import SupervisingActor
from messages.lifecycle import ChildFailed
from supervision.intensity import Intensity, add_restart
from supervision.spec import ChildSpec, Strategy

TWICE = Intensity(2, 3600.0)


def _one_too_many(world, diary, strategy, *, stop_together=False):
    reports = []
    top = world.system.spawn(Over, "/over", reports)
    s = world.system.spawn(
        SupervisingActor,
        "/over/s",
        [plan(diary, name, backoff=AT_ONCE) for name in "abc"],
        strategy=strategy,
        intensity=TWICE,
        stop_together=stop_together,
        parent=top,
    )
    for number in range(1, 4):
        world.until(lambda n=number: diary.count("up", "b") == n and world.counts(s).active == 3)
        assert not reports
        world.tell(s, "b", Fail(TimeoutError(f"failure {number}")))
    world.until(lambda: reports)
    assert isinstance(reports[0], ChildFailed)
    assert isinstance(reports[0].error, GaveUp)
    world.until(lambda: dead(s))
    assert all(world.system.find(f"/over/s/{name}") is None for name in "abc")
    return str(reports[0].error)


def test_o22_one_for_one_gives_up_at_one_restart_too_many_and_takes_its_children(world, diary):
    """The reason says which child, which limit, and why it failed, the newest failure first."""
    said = _one_too_many(world, diary, Strategy.ONE_FOR_ONE)
    assert said.startswith("b: more than 2 restarts within 3600 s; causes: b: TimeoutError: failure 3; b: TimeoutError")
    assert diary.of("down") == ["c", "a"]


def test_o23_one_for_all_gives_up_in_the_same_way(world, diary):
    """A group restart counts once."""
    assert "more than 2 restarts" in _one_too_many(world, diary, Strategy.ONE_FOR_ALL)
    assert diary.of("down")[-2:] == ["c", "a"]


def test_o24_rest_for_one_gives_up_in_the_same_way(world, diary):
    """Those before the failing one go too."""
    assert "more than 2 restarts" in _one_too_many(world, diary, Strategy.REST_FOR_ONE)
    assert diary.of("down")[-2:] == ["c", "a"]


def test_o25_a_dynamic_pool_gives_up_in_the_same_way(world, diary):
    """All its members go."""
    assert "more than 2 restarts" in _one_too_many(world, diary, Strategy.ONE_FOR_ONE, stop_together=True)
    assert sorted(diary.of("down")) == ["a", "c"]


def test_o26_restarts_spaced_wider_than_the_period_go_on_for_ever(world, diary):
    """On virtual time a thousand; on threads a few, with a short period."""
    period = 10.0 if world.virtual else 0.03
    s = world.supervise(plan(diary, "a", backoff=AT_ONCE), intensity=Intensity(1, period))
    for number in range(1, 1000 if world.virtual else 6):
        world.until(lambda n=number: diary.count("up", "a") == n)
        if world.virtual:
            world.time.pass_time(period + 0.001)
        else:
            later = world.system.monotonic() + period
            world.until(lambda t=later: world.system.monotonic() > t)
        world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: world.counts(s).active == 1)
    times, allowed = add_restart((5.0,), 10.0, Intensity(1, 5.0))
    assert not allowed  # one exactly as old as the period still counts
    assert add_restart(times[1:], 10.1, Intensity(1, 5.0))[1]


@pytest.mark.parametrize("where", ["failing_inits", "failing_starts"])
def test_o27_failing_to_start_counts_too_and_escalates(world, diary, where):
    """A child that cannot come back is as bad as one that always falls."""
    s = world.supervise(plan(diary, "a", backoff=AT_ONCE), plan(diary, "b"), intensity=Intensity(3, 3600.0))
    world.until(lambda: diary.of("up") == ["a", "b"])
    getattr(diary, where)["a"] = 1000
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: dead(s))
    assert len(diary.of("init failed")) + len(diary.of("start failed")) == 3
    assert diary.of("down") == ["b"]


def _subtree(diary, name):
    plans = [plan(diary, f"{name}.{i}", backoff=AT_ONCE) for i in (1, 2)]
    return ChildPlan(
        ChildSpec(name, backoff=AT_ONCE), SupervisingActor, (plans,), {"intensity": Intensity(0), "jitter": lambda: 0.0}
    )


def test_o28_only_the_failing_subtree_restarts_static_children_return_and_dynamic_ones_do_not(world, diary):
    """What is added while it runs is known to its supervisor alone; ours that must return are in the store."""
    s = world.supervise(_subtree(diary, "left"), _subtree(diary, "right"), intensity=OFTEN)
    world.until(lambda: len(diary.of("up")) == 4)
    left, right = world.system.find("/s/left"), world.system.find("/s/right")
    world.add(left, plan(diary, "dynamic"))
    world.until(lambda: diary.count("up", "dynamic") == 1)
    world.tell(left, "left.1", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "left.2") == 2)
    again = world.system.find("/s/left")
    assert again is not left
    assert world.system.find("/s/right") is right
    assert diary.count("made", "right.1") == 1
    assert list(world.rows(again)) == ["left.1", "left.2"]
    assert diary.count("made", "dynamic") == 1
    assert world.rows(s)["left"].restarts == 1
    assert world.counts(s).supervising == 2


def test_a_supervisor_that_cannot_help_says_so_in_its_own_log(world, diary):
    """A person reads why, with the list of causes, where the actor crashed."""
    s = world.supervise(plan(diary, "a", backoff=AT_ONCE), intensity=Intensity(0))
    world.tell(s, "a", Fail(TimeoutError("the reason")))
    world.until(lambda: dead(s))
    crashes = [fields for _, fields in world.log.named("actor_crashed") if fields["actor"] == "/s"]
    assert "the reason" in crashes[0]["error_message"]
    assert world.log.named("actor_escalated")
