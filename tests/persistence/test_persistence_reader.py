"""Reading off the dispatcher: whoever asks is answered once, whatever becomes of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from scripted_store import SOON, Log, Outcomes, Scripted
from store_samples import result, said, step

from persistence.contract import Loaded, StoreUnavailable
from persistence.reader import Reader


@pytest.fixture
def store() -> Scripted:
    return Scripted()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def reader(store: Scripted, log: Log) -> Iterator[Reader]:
    reader = Reader(store, threads=1, now_ms=lambda: 1_000, log=log)
    yield reader
    reader.stop(SOON)


def test_reading_answers_with_the_value_or_with_the_exception(store, reader):
    answers = Outcomes()
    store.commit([step(memory=(said(1),))])
    reader.load("c1", 5, answers)
    reader.find_message("c1", "m1", answers)
    reader.submit(lambda: 1 // 0, done=answers)
    loaded, message, error = answers.wait(3)
    assert loaded == store.load("c1", recent=5)
    assert message is None
    assert isinstance(error, ZeroDivisionError)


def test_a_reusable_result_is_found_until_it_expires_and_only_if_it_can_be_read(store, reader):
    answers = Outcomes()
    rows = (
        result("r1", "a", body=b'{"x":1}', cache_key="good", expires_at=2_000),
        result("r1", "b", body=b'{"x":', cache_key="bad", expires_at=2_000),
        result("r1", "c", body=b"1", cache_key="old", expires_at=1_000),
    )
    store.commit([step(results=rows)])
    for key in ("good", "bad", "old", "none"):
        reader.find(key, answers)
    assert answers.wait(4) == [({"x": 1}, b'{"x":1}'), None, None, None]


def held_back(reader: Reader) -> threading.Event:
    """Keep the reader's one thread busy until the event is set."""
    release, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(SOON)

    reader.submit(hang, done=lambda _: None)
    assert begun.wait(SOON)
    return release


def test_those_that_wake_together_are_looked_up_together_and_loaded_only_when_they_are_there(store, reader):
    answers, looks, loads = Outcomes(), [], []
    store.commit([step("c1", memory=(said(1),))])
    absent, load = store.absent, store.load
    store.absent = lambda ids: (looks.append(list(ids)), absent(ids))[1]
    store.load = lambda key, **how: (loads.append(key), load(key, **how))[1]
    release = held_back(reader)
    for key in ("n1", "c1", "n2"):
        reader.load(key, 5, answers)
    release.set()
    found = {loaded.conversation_id: loaded for loaded in answers.wait(3)}
    assert found == {"n1": Loaded("n1"), "n2": Loaded("n2"), "c1": load("c1", recent=5)}
    assert (looks, loads) == ([["n1", "c1", "n2"]], ["c1"])


def test_when_the_look_fails_each_is_asked_for_by_itself(store, reader):
    answers = Outcomes()
    load = store.load

    def absent(_ids: Sequence[str]) -> set[str]:
        raise StoreUnavailable("no")

    def broken(key: str, **how: Any) -> Any:
        if key == "bad":
            raise StoreUnavailable("bad")
        return load(key, **how)

    store.absent, store.load = absent, broken
    release = held_back(reader)
    reader.load("n1", 5, answers)
    reader.load("bad", 5, answers)
    release.set()
    first, second = answers.wait(2)
    assert first == Loaded("n1")
    assert str(second) == "bad"


def test_wakings_asked_for_before_the_stop_are_answered(store):
    reader, answers = Reader(store, threads=1), Outcomes()
    store.commit([step("c1")])
    release = held_back(reader)
    for key in ("n1", "c1"):
        reader.load(key, 5, answers)
    assert not reader.stop(0)
    release.set()
    assert reader.stop(SOON)
    reader.load("c2", 5, answers)
    assert sorted(loaded.conversation_id for loaded in answers.all) == ["c1", "n1"]


def test_a_listener_in_trouble_does_not_end_the_reader(reader, log):
    answers = Outcomes()

    def listener(_answer: Any) -> None:
        raise RuntimeError("listener")

    reader.submit(lambda: 1, done=listener)
    reader.submit(lambda: 2, done=answers)
    assert answers.wait(1) == [2]
    assert log.events() == ["read_callback_failed"]


def test_stop_finishes_what_was_asked_and_takes_no_more(store):
    reader, answers = Reader(store, threads=2), Outcomes()
    for number in range(20):
        reader.submit(lambda n=number: n, done=answers)
    assert reader.stop(SOON)
    assert sorted(answers.all) == list(range(20))
    reader.submit(lambda: 99, done=answers)
    assert len(answers.all) == 20


def test_stop_waits_no_longer_than_asked_in_all(store):
    release = threading.Event()
    reader, begun = Reader(store, threads=4), Outcomes()

    def hang() -> None:
        begun(None)
        release.wait(SOON)

    for _ in range(4):
        reader.submit(hang, done=lambda _: None)
    begun.wait(4)
    began = time.monotonic()
    assert not reader.stop(1.0)
    assert time.monotonic() - began < 3.5, "each thread had the whole time"
    release.set()
    assert reader.stop(SOON)


def test_a_message_that_waits_for_a_silent_look_up_is_known_and_upkeep_is_not(store, reader, monkeypatch):
    monkeypatch.setattr("persistence.reader.PATIENCE", 0.0)
    release = held_back(reader)
    assert reader.stalled is None
    release.set()
    seen, answers = [], Outcomes()

    def look_up(*_ids):
        seen.append(reader.stalled)

    store.find_message = look_up
    reader.find_message("c", "m", answers)
    answers.wait(1)
    assert seen == ["it has not answered for 0 s"]
    reader.submit(lambda: None, done=answers)  # after it the thread is done with the one before
    answers.wait(1)
    assert reader.stalled is None
