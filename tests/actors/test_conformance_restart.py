"""Supervision conformance, O7 to O21: who is restarted, and who is taken along."""

from __future__ import annotations

import gc
import weakref

import pytest
from conformance_support import Fail, Quit, plan

from actors.child_plan import RemoveChild
from supervision.children import ChildState
from supervision.spec import Strategy


def _end(world, s, name, how):
    """Let a child end: by itself, asked by somebody else, or by an error."""
    if how == "normal":
        world.tell(s, name, Quit())
    elif how == "shutdown":
        world.system.find(f"/s/{name}").stop(block=False)
    else:
        world.tell(s, name, Fail(TimeoutError("down")))


def _nine(world, diary, restart, how, *, comes_back):
    s = world.supervise(plan(diary, "a", restart), plan(diary, "b"))
    _end(world, s, "a", how)
    if comes_back:
        world.until(lambda: diary.count("up", "a") == 2)
        assert world.rows(s)["a"].restarts == 1
        return
    world.until(lambda: not world.system.find("/s/a"))
    world.until(lambda: world.counts(s).active == 1)
    if restart == "temporary":
        assert list(world.rows(s)) == ["b"]
    else:
        assert world.rows(s)["a"].state is ChildState.STOPPED
    assert world.counts(s).waiting == 0
    assert diary.count("made", "a") == 1


def test_o07_a_permanent_child_comes_back_after_a_normal_exit(world, diary):
    """Permanent means always."""
    _nine(world, diary, "permanent", "normal", comes_back=True)


def test_o08_a_permanent_child_comes_back_after_a_shutdown_from_elsewhere(world, diary):
    """Only its supervisor can keep it down."""
    _nine(world, diary, "permanent", "shutdown", comes_back=True)


def test_o09_a_permanent_child_comes_back_after_a_failure(world, diary):
    """Whatever the error, short of a fatal one."""
    _nine(world, diary, "permanent", "abnormal", comes_back=True)


def test_o10_a_transient_child_stays_down_after_a_normal_exit(world, diary):
    """Its work is done; its spec is kept."""
    _nine(world, diary, "transient", "normal", comes_back=False)


def test_o11_a_transient_child_stays_down_after_a_shutdown(world, diary):
    """Somebody wanted it down."""
    _nine(world, diary, "transient", "shutdown", comes_back=False)


def test_o12_a_transient_child_comes_back_after_a_failure(world, diary):
    """Its work is not done."""
    _nine(world, diary, "transient", "abnormal", comes_back=True)


def test_o13_a_temporary_child_is_forgotten_after_a_normal_exit(world, diary):
    """It has no spec to keep."""
    _nine(world, diary, "temporary", "normal", comes_back=False)


def test_o14_a_temporary_child_is_forgotten_after_a_shutdown(world, diary):
    """As after a normal exit."""
    _nine(world, diary, "temporary", "shutdown", comes_back=False)


def test_o15_a_temporary_child_is_forgotten_after_a_failure(world, diary):
    """It is never restarted."""
    _nine(world, diary, "temporary", "abnormal", comes_back=False)


class Payload(bytearray):
    """50 kB that somebody might hold on to."""


def test_o16_a_temporary_bystander_is_not_restarted_and_its_arguments_are_let_go(world, diary):
    """A group restart stops it for good."""
    payload = Payload(50_000)
    gone = weakref.ref(payload)
    s = world.supervise(
        plan(diary, "a"), plan(diary, "t", "temporary", payload=(payload,)), strategy=Strategy.ONE_FOR_ALL
    )
    del payload
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "a") == 2)
    assert list(world.rows(s)) == ["a"]
    assert diary.count("made", "t") == 1

    def let_go():
        gc.collect()
        return gone() is None

    world.until(let_go)


def _fail_the_middle_one(world, diary, strategy):
    s = world.supervise(*(plan(diary, name) for name in "abc"), strategy=strategy)
    before = {name: world.system.find(f"/s/{name}") for name in "abc"}
    world.tell(s, "b", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "b") == 2 and world.counts(s).active == 3)
    after = {name: world.system.find(f"/s/{name}") for name in "abc"}
    return [name for name in "abc" if before[name] is not after[name]]


def test_o17_one_for_one_leaves_the_siblings_as_they_are(world, diary):
    """They are the same actors as before."""
    assert _fail_the_middle_one(world, diary, Strategy.ONE_FOR_ONE) == ["b"]


def test_o18_one_for_all_leaves_none_of_the_old_ones(world, diary):
    """All have a new life, begun only when all old ones had ended."""
    assert _fail_the_middle_one(world, diary, Strategy.ONE_FOR_ALL) == ["a", "b", "c"]
    lines = [line[:2] for line in diary.lines if line[0] in ("made", "down")]
    assert lines[3:] == [("down", "c"), ("down", "a"), ("made", "a"), ("made", "b"), ("made", "c")]


def test_o19_rest_for_one_replaces_only_the_later_ones(world, diary):
    """Those started before do not depend on the one that failed."""
    assert _fail_the_middle_one(world, diary, Strategy.REST_FOR_ONE) == ["b", "c"]


def test_o20_a_dynamic_pool_grows_shrinks_and_restarts_each_member_alone(world, diary):
    """Members are added and removed while it runs."""
    s = world.supervise(stop_together=True)
    for number in range(20):
        world.add(s, plan(diary, f"m{number}"))
    assert world.counts(s).active == 20
    world.tell(s, "m7", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "m7") == 2)
    assert world.ask(s, RemoveChild("m3")) is True
    assert world.ask(s, RemoveChild("m3-that-never-was")) is False
    world.until(lambda: world.counts(s).specs == 19)
    assert diary.of("down") == ["m3"]
    assert len(diary.of("made")) == 21


def test_o21_one_for_all_stops_the_restarted_ones_and_tries_again_when_one_cannot_start(world, diary):
    """Each attempt begins with the first."""
    s = world.supervise(*(plan(diary, name) for name in "abc"), strategy=Strategy.ONE_FOR_ALL)
    diary.failing_inits["b"] = 2
    world.tell(s, "c", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "c") == 2)
    assert diary.count("init failed", "b") == 2
    assert diary.count("made", "a") == 4
    assert diary.count("made", "c") == 2
    assert world.counts(s).active == 3


def test_o21_rest_for_one_does_not_restart_those_already_up(world, diary):
    """What came back before the one that cannot start stays."""
    s = world.supervise(*(plan(diary, name) for name in "abc"), strategy=Strategy.REST_FOR_ONE)
    diary.failing_inits["b"] = 2
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "c") == 2)
    assert diary.count("init failed", "b") == 2
    assert diary.count("made", "a") == 2
    assert world.counts(s).active == 3


def test_a_child_fails_at_every_point_of_a_group_restart_and_all_come_back(world, diary):
    """Failing starts of each member, in `__init__` and in `on_start`, do not lose anybody."""
    s = world.supervise(*(plan(diary, name) for name in "abcd"), strategy=Strategy.ONE_FOR_ALL)
    diary.failing_inits = {"a": 1, "c": 1}
    diary.failing_starts = {"b": 1, "d": 1}
    world.tell(s, "d", Fail(TimeoutError()))
    world.until(lambda: not any([*diary.failing_inits.values(), *diary.failing_starts.values()]))
    world.until(lambda: world.counts(s).active == 4)
    assert [row.state for row in world.rows(s).values()] == [ChildState.RUNNING] * 4


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_stale_report_about_an_earlier_life_changes_nothing(world, diary, strategy):
    """Reports name the life they are about."""
    s = world.supervise(plan(diary, "a"), strategy=strategy)
    first = world.system.find("/s/a")
    world.tell(s, "a", Fail(TimeoutError()))
    world.until(lambda: diary.count("up", "a") == 2)
    assert not world.system.kill(first)
    assert world.rows(s)["a"].incarnation == 2
