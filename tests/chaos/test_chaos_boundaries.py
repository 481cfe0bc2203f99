"""Which boundaries a run kills at, and in which order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.boundaries import ALL, COMMITS, RECOVERY, schedule
from chaos.killing_store import kinds_of
from persistence.contract import Append, InboxRow, ResultRow


@given(kills=st.integers(1, 200), seed=st.integers())
def test_a_run_has_as_many_kills_as_asked_for_and_begins_with_work(kills, seed):
    """The first daemon has nothing to recover, so it is killed at a commit where there is one."""
    found = schedule(kills, seed)
    assert len(found) == kills
    if any(kill.boundary.group in COMMITS for kill in found):
        assert found[0].boundary.group in COMMITS
    assert all(kill.occurrence >= 1 and 0 <= kill.chance < 1 for kill in found)


@given(seed=st.integers())
def test_the_default_number_of_kills_meets_every_boundary(seed):
    """Fifty are enough for each one, and random times several times."""
    count = Counter(kill.boundary for kill in schedule(50, seed))
    assert set(count) == set(ALL)
    assert count[next(b for b in ALL if b.group == "random")] >= 5


@given(seed=st.integers())
def test_a_short_run_is_spread_over_groups_and_recovery_is_killed_in_a_row(seed):
    """Eight kills are of at least five groups; recoveries come in runs."""
    short = schedule(8, seed)
    assert len({kill.boundary.group in RECOVERY or kill.boundary.group for kill in short}) >= 5
    recovering = [kill.boundary.group in RECOVERY for kill in schedule(50, seed)]
    assert any(all(recovering[n : n + 3]) for n in range(48))


def test_the_same_seed_is_the_same_run_and_another_is_not():
    """So that a failing run can be repeated."""
    assert schedule(60, 4) == schedule(60, 4) != schedule(60, 5)


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"inbox": (InboxRow("m", "r", "f", 1),)}, ["accepted"]),
        ({"entry": b'..{"type":"plan.drafted"},{"type":"node.started"}'}, ["drafted", "started"]),
        ({"results": (ResultRow("r", "n", "a", 1, b"1", 1.0),), "snapshot": b"s"}, ["result", "snapshot"]),
        ({"replied": (("m", 2),), "snapshot": b"s"}, ["reply"]),
        ({}, []),
    ],
)
def test_a_step_is_of_the_kinds_it_holds(fields, kinds):
    """A reply's own snapshot does not make it one in the middle of a turn."""
    whole = {"conversation_id": "c", "expected_seq": 0, "last_seq": 1, "at": 0, "entry": b"", "phase": "idle"}
    append = Append(**{**whole, "unfinished": True, "oldest_open_seq": None, **fields})
    assert list(kinds_of(append)) == kinds
