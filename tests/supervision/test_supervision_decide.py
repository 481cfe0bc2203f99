"""Whether and when a child is restarted: every rule, and the arithmetic of the delays."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision.backoff import Backoff
from supervision.decide import Escalate, History, Restart, Stop, decide
from supervision.errors import Classified, ErrorClass
from supervision.spec import ChildSpec, RestartType

SLOW = Classified("TimeoutError", ErrorClass.TRANSIENT, "slow")
BAD = Classified("ValueError", ErrorClass.PERMANENT, "bad")
DEAD = Classified("MemoryError", ErrorClass.FATAL, "dead")
ODD = Classified("Odd", ErrorClass.TRANSIENT, "?", once=True)


def call(**fields):
    """Return the spec of an agent call."""
    return ChildSpec("stock", **{"restart": RestartType.TRANSIENT, "max_restarts": 3, **fields})


def server(**fields):
    """Return the spec of a structural actor."""
    return ChildSpec("c1", retry_permanent_errors=True, retry_fatal_errors=True, **fields)


@pytest.mark.parametrize(
    ("restart", "failure", "expected"),
    [
        (RestartType.PERMANENT, None, Restart),
        (RestartType.PERMANENT, SLOW, Restart),
        (RestartType.PERMANENT, BAD, Restart),
        (RestartType.PERMANENT, ODD, Restart),
        (RestartType.PERMANENT, DEAD, Escalate),
        (RestartType.TRANSIENT, None, Stop),
        (RestartType.TRANSIENT, SLOW, Restart),
        (RestartType.TRANSIENT, BAD, Stop),
        (RestartType.TRANSIENT, ODD, Restart),
        (RestartType.TRANSIENT, DEAD, Stop),
        (RestartType.TEMPORARY, None, Stop),
        (RestartType.TEMPORARY, SLOW, Stop),
        (RestartType.TEMPORARY, BAD, Stop),
        (RestartType.TEMPORARY, DEAD, Stop),
    ],
)
def test_the_restart_type_and_the_class_of_the_error_decide(restart, failure, expected):
    assert isinstance(decide(ChildSpec("x", restart), failure, History(), 0.0, 0.0), expected)


@pytest.mark.parametrize("failure", [BAD, DEAD, ODD])
def test_a_structural_transient_child_is_restarted_whatever_the_error(failure):
    spec = server(restart=RestartType.TRANSIENT)
    assert isinstance(decide(spec, failure, History(failures=5), 1.0, 0.0), Restart)


@pytest.mark.parametrize(
    ("failures", "after"),
    [(0, 1.0), (1, 2.0), (2, 4.0)],  # 1*2^failures
)
def test_the_delay_grows_with_the_failures_in_a_row(failures, after):
    directive = decide(call(), SLOW, History(failures=failures), 0.0, 0.0)
    assert isinstance(directive, Restart)
    assert directive.after == after


def test_the_rule_says_what_set_the_delay():
    directive = decide(call(), SLOW, History(failures=1), 0.0, 0.0)
    assert directive == Restart(2.0, "transient error, retry 2 of 3: backoff min(30, 1*2^1) + jitter")
    unlimited = decide(ChildSpec("x"), None, History(), 0.0, 0.0)
    assert unlimited == Restart(1.0, "ended normally, retry 1: backoff min(30, 1*2^0) + jitter")


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_one_restart_too_many_escalates(limit):
    spec = call(max_restarts=limit)
    assert isinstance(decide(spec, SLOW, History(failures=limit), 0.0, 0.0), Escalate)
    if limit:
        assert isinstance(decide(spec, SLOW, History(failures=limit - 1), 0.0, 0.0), Restart)


def test_an_error_of_unknown_kind_is_retried_once():
    assert isinstance(decide(call(), ODD, History(failures=0), 0.0, 0.0), Restart)
    assert isinstance(decide(call(), ODD, History(failures=1), 0.0, 0.0), Escalate)


def test_the_rule_of_an_error_of_unknown_kind_promises_no_more_than_its_one_retry():
    """`retry 1 of 3` made people wait for two that never came."""
    directive = decide(call(), ODD, History(), 0.0, 0.0)
    assert isinstance(directive, Restart)
    assert directive.rule == "error of unknown kind, retried once only: backoff min(30, 1*2^0) + jitter"
    always = decide(server(), ODD, History(), 0.0, 0.0)
    assert isinstance(always, Restart) and "once" not in always.rule


def test_fatal_errors_are_retried_where_the_spec_allows():
    assert isinstance(decide(call(retry_fatal_errors=True), DEAD, History(), 0.0, 0.0), Restart)


@pytest.mark.parametrize(
    ("asked", "after", "named"),
    [(7.0, 7.0, "Retry-After 7 s"), (0.5, 1.0, "backoff"), (0.0, 1.0, "backoff")],
)
def test_retry_after_is_obeyed_when_it_is_longer_than_the_backoff(asked, after, named):
    failure = Classified("Busy", ErrorClass.TRANSIENT, "429", retry_after=asked)
    directive = decide(call(), failure, History(), 0.0, 0.0)
    assert isinstance(directive, Restart)
    assert directive.after == after
    assert named in directive.rule


@pytest.mark.parametrize(
    ("history", "now", "after"),
    [
        (History(5, last_failure_at=0.0, started_at=30.0), 45.4, 30.0),  # quiet 15.4 s of 15.5: min(30, 2^5)
        (History(5, last_failure_at=0.0, started_at=30.0), 45.5, 1.0),  # quiet 15.5 s: counted anew
        (History(5, last_failure_at=0.0, started_at=30.0), 31.0, 30.0),  # the backoff of 30 s itself is not quiet
        (History(5, last_failure_at=40.0, started_at=0.0), 45.0, 30.0),  # nor is time before the last failure
    ],
)
def test_a_quiet_life_resets_a_structural_child(history, now, after):
    directive = decide(server(), SLOW, history, now, 0.0)
    assert isinstance(directive, Restart)
    assert directive.after == after


def test_a_call_that_times_out_again_and_again_comes_to_an_end():
    """Each attempt of a minute would count as a quiet life."""
    assert isinstance(decide(call(), SLOW, History(failures=3, started_at=0.0), 60.0, 0.0), Escalate)


def test_a_spec_may_say_itself_whether_quiet_resets():
    assert isinstance(decide(call(quiet_resets=True), SLOW, History(failures=3), 60.0, 0.0), Restart)
    spec = server(quiet_resets=False, max_restarts=3)
    assert isinstance(decide(spec, SLOW, History(failures=3), 60.0, 0.0), Escalate)


def test_history_counts_and_starts_anew():
    spec = server()
    first = History(started_at=0.0).after(spec, 1.0)
    assert (first.failures, first.last_failure_at) == (1, 1.0)
    assert first.after(spec, 2.0).failures == 2
    assert first.after(spec, 100.0).failures == 1


@given(
    st.integers(0, 2**31),
    st.floats(0, 1, exclude_max=True),
    st.one_of(st.none(), st.floats(0, 86_400)),
)
def test_a_delay_is_never_below_retry_after_nor_above_both_limits(failures, jitter, asked):
    backoff = Backoff()
    failure = Classified("Busy", ErrorClass.TRANSIENT, "", retry_after=asked)
    spec = call(max_restarts=None, backoff=backoff)
    directive = decide(spec, failure, History(failures=failures), 0.0, jitter)
    assert isinstance(directive, Restart)
    assert (asked or 0.0) <= directive.after <= max(asked or 0.0, 30.0 * 1.2)
    assert directive.after >= backoff.min_backoff


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"id": ""}, "id"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"shutdown_timeout": -1}, "shutdown_timeout"),
        ({"shutdown_timeout": math.nan}, "shutdown_timeout"),
        ({"significant": True}, "significant"),
    ],
)
def test_specs_that_make_no_sense_are_refused_by_name(fields, named):
    with pytest.raises(ValueError, match=named):
        ChildSpec(**{"id": "x", **fields})
