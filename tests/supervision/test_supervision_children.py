"""A supervisor's roster: who is stopped and started, in which order, and when it gives up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision.backoff import Backoff
from supervision.children import (
    ChildState,
    EscalateNow,
    Roster,
    ShutDownNow,
    StartChild,
    StopChild,
    added,
    failed,
    removed,
    shut_down,
    started,
    stopped,
)
from supervision.errors import Classified, ErrorClass
from supervision.intensity import Intensity
from supervision.spec import AutoShutdown, ChildSpec, RestartType, Strategy

CRASH = Classified("TimeoutError", ErrorClass.TRANSIENT, "")
OFTEN = Intensity(100, 1.0)


def running(strategy, *children, intensity=OFTEN, auto_shutdown=AutoShutdown.NEVER):
    """Return a roster whose children (ids, or specs) are all up."""
    roster = Roster(strategy, intensity, auto_shutdown)
    for child in children:
        spec = child if isinstance(child, ChildSpec) else ChildSpec(child, backoff=Backoff(1, 1, random_factor=0))
        roster, actions = added(roster, spec)
        assert actions == (StartChild(spec.id, 0.0),)
        roster, _ = started(roster, spec.id, 0.0)
    return roster


def brief(actions):
    """Return actions as short words."""
    words = {StopChild: "stop", StartChild: "start", EscalateNow: "escalate", ShutDownNow: "shut down"}
    return [f"{words[type(a)]} {getattr(a, 'id', '')}".strip() for a in actions]


def states(roster):
    return {child.spec.id: child.state.value for child in roster.children}


def stop_all(roster, actions, now=0.0):
    """Report every stop that was asked for; return the roster and what came of it."""
    after = []
    for action in actions:
        if isinstance(action, StopChild):
            roster, more = stopped(roster, action.id, now)
            after.extend(more)
    return roster, after


def test_one_for_one_restarts_only_the_child_that_failed():
    roster, actions = failed(running(Strategy.ONE_FOR_ONE, "a", "b", "c"), "b", CRASH, 0.0, 0.0)
    assert brief(actions) == ["start b"]
    assert actions[0].after == 1.0
    assert states(roster) == {"a": "running", "b": "starting", "c": "running"}


def test_one_for_all_stops_in_reverse_and_starts_in_order_once_all_have_stopped():
    roster, stops = failed(running(Strategy.ONE_FOR_ALL, "a", "b", "c"), "b", CRASH, 0.0, 0.0)
    assert brief(stops) == ["stop c", "stop a"]
    roster, none_yet = stopped(roster, "c", 0.1)
    assert none_yet == ()
    roster, starts = stopped(roster, "a", 0.25)
    assert brief(starts) == ["start a", "start b", "start c"]
    assert {start.after for start in starts} == {0.75}  # the delay of 1 s counts from the failure


def test_rest_for_one_takes_only_later_children_along():
    roster, stops = failed(running(Strategy.REST_FOR_ONE, "a", "b", "c", "d"), "b", CRASH, 0.0, 0.0)
    assert brief(stops) == ["stop d", "stop c"]
    roster, starts = stop_all(roster, stops)
    assert brief(starts) == ["start b", "start c", "start d"]
    assert states(roster)["a"] == "running"


def test_the_last_child_of_rest_for_one_is_restarted_alone():
    _, actions = failed(running(Strategy.REST_FOR_ONE, "a", "b"), "b", CRASH, 0.0, 0.0)
    assert brief(actions) == ["start b"]


def test_a_temporary_bystander_does_not_come_back():
    temporary = ChildSpec("t", RestartType.TEMPORARY)
    roster, stops = failed(running(Strategy.ONE_FOR_ALL, "a", temporary), "a", CRASH, 0.0, 0.0)
    roster, starts = stop_all(roster, stops)
    assert brief(starts) == ["start a"]
    assert "t" not in roster


def test_a_transient_bystander_comes_back_but_not_one_that_had_finished():
    done, busy = (ChildSpec(name, RestartType.TRANSIENT) for name in ("done", "busy"))
    roster, _ = stopped(running(Strategy.ONE_FOR_ALL, "a", done, busy), "done", 0.0)
    roster, stops = failed(roster, "a", CRASH, 0.0, 0.0)
    _, starts = stop_all(roster, stops)
    assert brief(starts) == ["start a", "start busy"]


def test_a_child_that_fails_while_the_group_comes_back_starts_it_over():
    roster, stops = failed(running(Strategy.ONE_FOR_ALL, "a", "b"), "a", CRASH, 0.0, 0.0)
    roster, _ = stop_all(roster, stops)
    roster, _ = started(roster, "a", 1.0)
    roster, stops = failed(roster, "b", CRASH, 1.0, 0.0)
    assert brief(stops) == ["stop a"]
    roster, starts = stopped(roster, "a", 1.0)
    assert brief(starts) == ["start a", "start b"]


def test_a_crash_while_being_stopped_counts_as_stopped():
    roster, _ = failed(running(Strategy.ONE_FOR_ALL, "a", "b"), "a", CRASH, 0.0, 0.0)
    _, starts = failed(roster, "b", CRASH, 0.0, 0.0)
    assert brief(starts) == ["start a", "start b"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["stop c", "stop a", "escalate"]),
        (Strategy.ONE_FOR_ALL, ["stop c", "stop a", "escalate"]),
        (Strategy.REST_FOR_ONE, ["stop c", "stop a", "escalate"]),
    ],
)
def test_one_restart_too_many_stops_everything_and_escalates(strategy, expected):
    roster = running(strategy, "a", "b", "c", intensity=Intensity(0, 5.0))
    roster, actions = failed(roster, "b", CRASH, 0.0, 0.0)
    assert brief(actions) == expected
    assert "more than 0 restarts within 5 s" in roster.ended
    roster, after = stop_all(roster, actions)
    assert after == []
    assert set(states(roster).values()) == {"stopped"}


def test_restarts_spaced_wider_than_the_period_go_on_for_ever():
    roster = running(Strategy.ONE_FOR_ONE, "a", intensity=Intensity(1, 5.0))
    for now in range(0, 600, 6):
        roster, actions = failed(roster, "a", CRASH, float(now), 0.0)
        assert brief(actions) == ["start a"]
        roster, _ = started(roster, "a", float(now) + 1)
    assert roster.get("a").restarts == 100


def test_failing_to_start_counts_and_escalates():
    roster, _ = added(Roster(intensity=Intensity(2, 5.0)), ChildSpec("a"))
    seen = []
    for _ in range(3):
        roster, actions = failed(roster, "a", CRASH, 0.0, 0.0)
        seen += brief(actions)
    assert seen == ["start a", "start a", "escalate"]


def test_a_child_with_its_own_limit_escalates():
    roster = running(Strategy.ONE_FOR_ONE, ChildSpec("a", max_restarts=0), "b")
    _, actions = failed(roster, "a", CRASH, 0.0, 0.0)
    assert brief(actions) == ["stop b", "escalate"]


def test_a_transient_child_that_finished_is_kept_and_a_temporary_one_forgotten():
    roster = running(Strategy.ONE_FOR_ONE, ChildSpec("t", RestartType.TRANSIENT), ChildSpec("x", RestartType.TEMPORARY))
    roster, actions = stopped(roster, "t", 0.0)
    assert (brief(actions), states(roster)["t"]) == ([], "stopped")
    roster, _ = failed(roster, "x", CRASH, 0.0, 0.0)
    assert "x" not in roster


def test_a_removed_child_is_stopped_first_and_then_forgotten():
    roster, actions = removed(running(Strategy.ONE_FOR_ONE, "a", "b"), "a")
    assert brief(actions) == ["stop a"]
    roster, again = removed(roster, "a")
    assert again == ()
    roster, _ = stopped(roster, "a", 0.0)
    assert "a" not in roster
    roster, _ = stopped(*removed(roster, "b")[:1], "b", 0.0)
    assert roster.children == ()


def test_a_start_that_is_not_wanted_any_more_is_stopped_again():
    roster, _ = failed(running(Strategy.ONE_FOR_ONE, "a"), "a", CRASH, 0.0, 0.0)
    roster, actions = shut_down(roster, "asked to")
    assert brief(actions) == ["stop a"]
    assert brief(started(roster, "a", 0.0)[1]) == ["stop a"]


def test_reports_about_a_child_that_is_down_change_nothing():
    roster, _ = stopped(running(Strategy.ONE_FOR_ONE, ChildSpec("t", RestartType.TRANSIENT)), "t", 0.0)
    assert failed(roster, "t", CRASH, 0.0, 0.0) == (roster, ())


@pytest.mark.parametrize(
    ("mode", "ends", "expected"),
    [
        (AutoShutdown.ANY_SIGNIFICANT, ["s1"], ["stop plain", "stop s2", "shut down"]),
        (AutoShutdown.ALL_SIGNIFICANT, ["s1"], []),
        (AutoShutdown.ALL_SIGNIFICANT, ["s1", "s2"], ["stop plain", "shut down"]),
        (AutoShutdown.ALL_SIGNIFICANT, ["plain"], []),
    ],
)
def test_the_end_of_significant_children_ends_the_supervisor(mode, ends, expected):
    specs = [ChildSpec(s, RestartType.TRANSIENT, significant=True) for s in ("s1", "s2")]
    plain = ChildSpec("plain", RestartType.TRANSIENT)
    roster = running(Strategy.ONE_FOR_ONE, *specs, plain, auto_shutdown=mode)
    actions = ()
    for child_id in ends:
        roster, actions = stopped(roster, child_id, 0.0)
    assert brief(actions) == expected


def test_stopping_a_significant_child_on_request_does_not_count():
    spec = ChildSpec("s", RestartType.TRANSIENT, significant=True)
    roster = running(Strategy.ONE_FOR_ONE, spec, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    roster, _ = removed(roster, "s")
    assert stopped(roster, "s", 0.0)[1] == ()


def test_a_crash_of_a_significant_transient_child_restarts_it():
    spec = ChildSpec("s", RestartType.TRANSIENT, significant=True)
    roster = running(Strategy.ONE_FOR_ONE, spec, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    assert brief(failed(roster, "s", CRASH, 0.0, 0.0)[1]) == ["start s"]


def test_children_that_cannot_be_taken_are_refused_with_the_reason():
    roster = running(Strategy.ONE_FOR_ONE, "a")
    with pytest.raises(ValueError, match="in use"):
        added(roster, ChildSpec("a"))
    with pytest.raises(ValueError, match="never shuts down"):
        added(roster, ChildSpec("s", RestartType.TRANSIENT, significant=True))
    with pytest.raises(ValueError, match="ending: asked to"):
        added(shut_down(roster, "asked to")[0], ChildSpec("b"))


STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["fail", "stop", "start"])), max_size=60)


@given(st.sampled_from(list(Strategy)), STEPS)
def test_whatever_happens_stops_are_reversed_starts_ordered_and_no_start_overtakes_a_stop(strategy, steps):
    roster = running(strategy, *"abcd")
    order = "abcd"
    for child_id, step in steps:
        waiting = {c.spec.id for c in roster.children if c.state is ChildState.STOPPING}
        if step == "fail":
            roster, actions = failed(roster, child_id, CRASH, 0.0, 0.0)
        elif step == "stop":
            roster, actions = stopped(roster, child_id, 0.0)
        else:
            roster, actions = started(roster, child_id, 0.0)
        stops = [order.index(a.id) for a in actions if isinstance(a, StopChild)]
        starts = [order.index(a.id) for a in actions if isinstance(a, StartChild)]
        assert stops == sorted(stops, reverse=True)
        assert starts == sorted(starts)
        if strategy is Strategy.ONE_FOR_ALL and starts:
            assert waiting <= {child_id}
        if roster.ended is None and roster.group is None:
            assert not any(c.state is ChildState.STOPPED for c in roster.children)
