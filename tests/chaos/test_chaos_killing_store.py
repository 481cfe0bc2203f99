"""The wrapper kills at the chosen occurrence of its boundary, and only there."""

from __future__ import annotations

import os
import signal

import pytest

from chaos.boundaries import Boundary, Kill
from chaos.killing_store import KillingStore
from chaos.ledger import LIFE, PLACE, read
from persistence.memory_store import MemoryStore


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def killing(monkeypatch, tmp_path):
    def die(pid, number):
        assert (pid, number) == (os.getpid(), signal.SIGKILL)
        raise Killed

    monkeypatch.setenv(PLACE, str(tmp_path / "ledger"))
    monkeypatch.setenv(LIFE, "3")
    monkeypatch.setattr("chaos.killing_store.os.kill", die)

    def make(group, moment, occurrence=1, unfinished=()):
        inner = MemoryStore()
        inner.open("one")
        monkeypatch.setattr(inner, "unfinished", lambda: list(unfinished))
        return KillingStore(inner, Kill(Boundary(group, moment), occurrence, 0.5))

    return make


@pytest.mark.parametrize("moment", ["before", "after"])
def test_it_dies_at_its_boundary_and_says_so_in_the_ledger(killing, tmp_path, moment):
    """Life and boundary stand there for whoever looks further."""
    store = killing("counting", moment)
    assert store.load("c", recent=1).last_seq == 0
    with pytest.raises(Killed):
        store.count_recoveries()
    assert [(line.what, line.life, line.key) for line in read(tmp_path / "ledger")] == [
        ("killed", 3, f"counting, {moment}")
    ]


def test_a_waking_is_one_of_the_unfinished_conversations(killing):
    """The fourth of two is the second; others are passed over."""
    store = killing("waking", "before", 4, ["a", "b"])
    store.unfinished()
    for name in ("other", "a", "another"):
        store.load(name, recent=1)
    with pytest.raises(Killed):
        store.load("b", recent=1)


def test_where_nothing_is_unfinished_any_waking_will_do(killing):
    """Else the daemon would not be killed at all."""
    store = killing("waking", "before", 2)
    assert store.unfinished() == []
    with pytest.raises(Killed):
        store.load("x", recent=1)


def test_what_is_no_boundary_is_passed_on(killing):
    """As if there were no wrapper."""
    store = killing("cleanup", "before")
    assert store.kind == "memory"
    assert store.phase_counts() == {}
