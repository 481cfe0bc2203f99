"""Restart intensity: more than so many within a period."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision.intensity import Intensity, add_restart


def verdicts(times, intensity):
    """Return, for each restart in turn, whether it was allowed."""
    kept, allowed = (), []
    for time in times:
        kept, ok = add_restart(kept, time, intensity)
        allowed.append(ok)
    return allowed


@pytest.mark.parametrize(
    ("limit", "times", "expected"),
    [
        (0, [0.0], [False]),  # none is allowed
        (1, [0.0, 1.0], [True, False]),  # the second within 5 s
        (1, [0.0, 5.0], [True, False]),  # exactly one period old still counts
        (1, [0.0, 5.1], [True, True]),  # just outside
        (2, [0.0, 4.0, 6.0, 8.0], [True, True, True, False]),  # the window slides: 4, 6, 8 are within 5 s
    ],
)
def test_restarts_within_the_period_are_counted(limit, times, expected):
    assert verdicts(times, Intensity(limit, 5.0)) == expected


@pytest.mark.parametrize("values", [(-1, 5.0), (1, 0.0), (1, float("inf")), (1, float("nan"))])
def test_values_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=r"max_restarts|period"):
        Intensity(*values)


@given(st.integers(0, 5), st.lists(st.floats(0, 100), max_size=40))
def test_a_restart_is_allowed_exactly_if_no_window_holds_too_many(limit, moments):
    times = sorted(moments)
    intensity = Intensity(limit, 5.0)
    expected = [sum(1 for t in times[: i + 1] if t >= now - 5.0) <= limit for i, now in enumerate(times)]
    assert verdicts(times, intensity) == expected


@given(st.integers(0, 5), st.lists(st.floats(0, 1), max_size=40))
def test_what_is_remembered_is_bounded(limit, moments):
    kept = ()
    for now in sorted(moments):
        kept, _ = add_restart(kept, now, Intensity(limit, 5.0))
        assert len(kept) <= limit + 1
