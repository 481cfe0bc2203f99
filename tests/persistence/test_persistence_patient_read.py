"""Figures of a store that hangs: had in time, without them, and at the price of one thread."""

from __future__ import annotations

import threading

import pytest

from persistence.contract import StoreUnavailable
from persistence.patient_read import PatientRead


def test_what_is_read_in_time_is_returned_and_read_anew_each_time() -> None:
    found = iter([{"idle": 1}, {"idle": 2}])
    read = PatientRead(lambda: next(found), within=10)
    assert [read(), read()] == [{"idle": 1}, {"idle": 2}]


def test_what_is_raised_is_raised() -> None:
    def gone() -> None:
        raise StoreUnavailable("gone")

    read = PatientRead(gone, within=10)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            read()


def test_one_that_hangs_is_asked_once_however_many_ask() -> None:
    release, begun = threading.Event(), []

    def hang() -> int:
        begun.append(1)
        release.wait(10)
        return len(begun)

    read = PatientRead(hang, within=0.02)
    assert [read() for _ in range(5)] == [None] * 5
    assert len(begun) == 1
    release.set()
    assert next(value for value in iter(read, "never") if value is not None) >= 1


def test_where_there_is_no_thread_the_next_call_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    read = PatientRead(lambda: 7, within=10)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        with pytest.raises(RuntimeError):
            read()
    assert read() == 7


def test_one_thread_asks_for_all_and_ends_when_told_to() -> None:
    """Stores keep a connection for each thread that has ever asked."""
    askers: list[threading.Thread] = []
    read = PatientRead(lambda: askers.append(threading.current_thread()), within=10)
    for _ in range(5):
        read()
    assert len(askers) == 5
    assert len(set(askers)) == 1
    read.stop()
    askers[0].join(10)
    assert not askers[0].is_alive()
    assert read() is None
    assert len(askers) == 5
