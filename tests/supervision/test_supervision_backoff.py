"""Delays between restarts, with the arithmetic visible."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision.backoff import Backoff


@pytest.mark.parametrize(
    ("k", "jitter", "expected"),
    [
        (0, 0.0, 1.0),  # 1*2^0
        (1, 0.0, 2.0),  # 1*2^1
        (4, 0.0, 16.0),  # 1*2^4
        (5, 0.0, 30.0),  # min(30, 1*2^5 = 32)
        (2**31, 0.0, 30.0),  # 2^(2^31) is no number a float can hold
        (10**400, 0.0, 30.0),  # nor is the exponent
        (1, 0.5, 2.2),  # 2 + 2*0.2*0.5
        (9, 0.5, 33.0),  # 30 + 30*0.2*0.5: jitter comes on top of the ceiling
    ],
)
def test_the_delay_is_the_formula(k, jitter, expected):
    assert Backoff().delay(k, jitter) == pytest.approx(expected)


def test_a_minimum_of_zero_never_waits():
    assert Backoff(min_backoff=0).delay(2**31, 0.9) == 0


@pytest.mark.parametrize(("after", "expected"), [(None, 15.5), (7.0, 7.0), (0.0, 0.0), (math.inf, math.inf)])
def test_counting_resets_after_the_mean_of_minimum_and_maximum_unless_told_otherwise(after, expected):
    assert Backoff(reset_backoff_after=after).reset_after == expected


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"min_backoff": -1}, "min_backoff"),
        ({"min_backoff": math.nan}, "min_backoff"),
        ({"min_backoff": 31}, "max_backoff"),
        ({"max_backoff": math.inf}, "max_backoff"),
        ({"factor": 0.5}, "factor"),
        ({"random_factor": -0.1}, "random_factor"),
        ({"random_factor": 1.1}, "random_factor"),
        ({"reset_backoff_after": -1}, "reset_backoff_after"),
        ({"reset_backoff_after": math.nan}, "reset_backoff_after"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values, named):
    with pytest.raises(ValueError, match=named):
        Backoff(**values)


@pytest.mark.parametrize(("k", "jitter", "named"), [(-1, 0.0, "k counts"), (0, 1.0, "jitter"), (0, -0.1, "jitter")])
def test_arguments_that_make_no_sense_are_refused(k, jitter, named):
    with pytest.raises(ValueError, match=named):
        Backoff().delay(k, jitter)


BACKOFFS = st.builds(
    lambda low, more, factor, share: Backoff(low, low + more, factor, share),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(1, 100),
    st.floats(0, 1),
)
JITTERS = st.floats(0, 1, exclude_max=True)


@given(BACKOFFS, st.integers(0, 2**40), JITTERS)
def test_a_delay_stays_between_minimum_and_ceiling_plus_jitter(backoff, k, jitter):
    delay = backoff.delay(k, jitter)
    assert backoff.min_backoff <= delay <= backoff.max_backoff * (1 + backoff.random_factor)


@given(BACKOFFS, st.integers(0, 2000))
def test_delays_never_shrink_from_one_restart_to_the_next(backoff, k):
    assert backoff.base(k) <= backoff.base(k + 1)
