"""The circuit breaker: when it opens, for how long, who is let through, and what counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import AgentTimeout, PermanentError, TransientError
from supervision.breaker import Breaker, BreakerSpec, BreakerState, Health, admit, health, left, report
from supervision.errors import classify

SPEC = BreakerSpec(failures=3, window=10.0, reset=30.0, max_reset=100.0)


class Status(Exception):
    """An answer of another service."""

    def __init__(self, status_code, retry_after=None):
        super().__init__(status_code)
        self.status_code = status_code
        self.retry_after = retry_after


def fail(breaker, now, spec=SPEC):
    """One call that is let through and fails."""
    entered = admit(breaker, now)
    assert entered is not None
    return report(entered, spec, entered.era, Health.BAD, now)


def opened(times=1):
    """A breaker that has opened so many times in a row, and when it lets the next call through."""
    breaker = Breaker()
    for now in range(3):
        breaker = fail(breaker, now)
    for _ in range(times - 1):
        breaker = fail(breaker, breaker.until)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row():
    breaker = fail(fail(Breaker(), 0.0), 1.0)
    assert breaker.state is BreakerState.CLOSED
    breaker = fail(breaker, 2.0)
    assert (breaker.state, breaker.until) == (BreakerState.OPEN, 32.0)


def test_a_success_between_them_begins_the_count_anew():
    breaker = fail(fail(Breaker(), 0.0), 1.0)
    breaker = report(breaker, SPEC, breaker.era, Health.GOOD, 1.5)
    assert fail(fail(breaker, 2.0), 3.0).state is BreakerState.CLOSED


def test_failures_that_lie_further_apart_than_the_window_do_not_add_up():
    breaker = Breaker()
    for now in range(0, 100, 5):
        breaker = fail(breaker, float(now))
    assert breaker.state is BreakerState.CLOSED
    assert fail(breaker, 96.0).state is BreakerState.OPEN


def test_while_open_calls_are_refused_with_the_time_left():
    breaker = opened()
    assert admit(breaker, 10.0) is None
    assert left(breaker, 10.0) == 22.0


def test_then_one_call_at_a_time_tries():
    breaker = opened()
    probing = admit(breaker, breaker.until)
    assert probing is not None and probing.state is BreakerState.HALF_OPEN
    assert admit(probing, breaker.until) is None
    assert 0 < left(probing, breaker.until) <= 1.0
    closed = report(probing, SPEC, probing.era, Health.GOOD, 40.0)
    assert (closed.state, closed.openings, closed.failed_at) == (BreakerState.CLOSED, 0, ())


def test_a_probe_that_says_nothing_leaves_the_way_free_for_the_next():
    probing = admit(opened(), 1_000.0)
    assert probing is not None
    free = report(probing, SPEC, probing.era, Health.NOTHING, 1_000.0)
    assert free.state is BreakerState.HALF_OPEN
    again = admit(free, 1_000.0)
    assert again is not None and admit(again, 1_000.0) is None


def test_each_opening_without_a_success_doubles_the_time_up_to_its_maximum():
    times = [opened(n).until - (opened(n - 1).until if n > 1 else 2.0) for n in (1, 2, 3, 4, 2_000)]
    assert times == [30.0, 60.0, 100.0, 100.0, 100.0]


def test_outcomes_of_calls_from_before_say_nothing():
    """Ten calls under way when it opens: their ends neither prolong nor close it, nor do they end the probe."""
    before = Breaker()
    breaker = opened()
    assert report(breaker, SPEC, before.era, Health.GOOD, 5.0) is breaker
    assert report(breaker, SPEC, before.era, Health.BAD, 5.0) is breaker
    probing = admit(breaker, breaker.until)
    assert probing is not None
    assert report(probing, SPEC, before.era, Health.GOOD, 40.0) is probing
    assert report(probing, SPEC, before.era, Health.NOTHING, 40.0) is probing


def test_zero_failures_mean_never():
    breaker = Breaker()
    for _ in range(1_000):
        breaker = fail(breaker, 0.0, BreakerSpec(failures=0))
    assert breaker == Breaker()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (AgentTimeout("slow"), Health.BAD),
        (ConnectionError("gone"), Health.BAD),
        (MemoryError(), Health.BAD),
        (Status(500), Health.BAD),
        (Status(503), Health.BAD),
        (Status(503, retry_after=5), Health.NOTHING),
        (Status(429), Health.NOTHING),
        (TransientError("later", retry_after=2), Health.NOTHING),
        (PermanentError("no"), Health.NOTHING),
        (TypeError("a bug"), Health.NOTHING),
    ],
)
def test_what_counts(error, says):
    assert health(classify(error, now_s=0.0)) is says


def test_a_success_is_good():
    assert health(None) is Health.GOOD


@given(st.lists(st.tuples(st.sampled_from(["begin", "good", "bad", "nothing"]), st.floats(0, 20)), max_size=200))
def test_whatever_comes_at_most_one_call_probes_and_it_always_finds_a_way_back(moves):
    """Calls overlap at random: never two probes at once, bounded memory, and once it is left alone it closes again."""
    breaker, now = Breaker(), 0.0
    under_way = []
    for move, pause in moves:
        now += pause
        if move == "begin":
            entered = admit(breaker, now)
            if entered is not None:
                breaker = entered
                under_way.append((breaker.era, breaker.state))
        elif under_way:
            era, _ = under_way.pop(0)
            breaker = report(breaker, SPEC, era, Health(move), now)
        probes = [era for era, state in under_way if state is BreakerState.HALF_OPEN and era == breaker.era]
        assert len(probes) <= 1
        assert breaker.probing == bool(probes)
        assert len(breaker.failed_at) <= SPEC.failures
        assert left(breaker, now) <= SPEC.max_reset
    for era, _ in under_way:
        breaker = report(breaker, SPEC, era, Health.NOTHING, now)
    entered = admit(breaker, now + SPEC.max_reset)
    assert entered is not None
    assert report(entered, SPEC, entered.era, Health.GOOD, now).state is BreakerState.CLOSED
