"""Durations and sizes are read as people write them, exactly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.durations import MAX_DURATION, MAX_SIZE, format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("5", 5.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("500ms", 0.5),
        ("100ms", 0.1),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7_200.0),
        ("1d", 86_400.0),
        (" 10 s ", 10.0),
        ("0", 0.0),
    ],
)
def test_a_duration_is_seconds_or_a_number_with_a_unit(written, seconds):
    """The forms the interface names, and a bare number."""
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "5x",
        "5 5",
        "-1s",
        -1,
        "1e3",
        "inf",
        "nan",
        math.inf,
        math.nan,
        True,
        None,
        [],
        "9" * 400,
        "11y",
        "٣s",
        1e300,
        10**400,
        "5M",
        "3651d",
    ],
)
def test_anything_else_is_refused_with_the_accepted_form(written):
    """Also what Python's float would take."""
    with pytest.raises(ValueError, match="500ms, 30s, 5m"):
        parse_duration(written)


@given(st.floats(min_value=1e-300, max_value=MAX_DURATION, allow_nan=False))
def test_what_is_written_is_read_back_exactly(seconds):
    """No setting changes by being shown and typed in again."""
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=10_000), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)]))
def test_units_are_what_they_say(count, unit):
    """Milliseconds, seconds, minutes, hours."""
    name, factor = unit
    assert parse_duration(f"{count}{name}") == pytest.approx(count * factor)


@given(st.text(max_size=30))
def test_no_text_does_anything_but_parse_or_raise_value_error(text):
    """Whatever somebody types."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= MAX_DURATION


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.5, "500ms"), (30, "30s"), (300, "5m"), (86_400, "1d"), (90, "90s")]
)
def test_durations_are_written_shortly(seconds, written):
    """The largest unit that needs no fraction."""
    assert format_duration(seconds) == written


@pytest.mark.parametrize(
    ("written", "size"), [(7, 7), ("7", 7), ("64KiB", 65_536), ("1MiB", 1 << 20), ("1.5KiB", 1_536), ("2 GiB", 2 << 30)]
)
def test_a_size_is_bytes_or_a_number_with_a_unit(written, size):
    """Binary units only, so that nobody has to guess."""
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "1MB", "1.5", "0.3KiB", -1, True, 1.0, None, MAX_SIZE + 1, "9" * 30])
def test_no_other_size_is_taken(written):
    """Fractions of a byte and decimal units included."""
    with pytest.raises(ValueError, match="64KiB, 1MiB"):
        parse_size(written)
