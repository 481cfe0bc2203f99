"""Group commit: order, batches, and what becomes of each failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from scripted_store import SOON, Log, Outcomes, Scripted
from store_samples import step

from persistence import writer as writer_module
from persistence import writer_intake
from persistence.contract import (
    Append,
    Committed,
    DeadLetterRow,
    MetricRow,
    OwnershipLost,
    StoreUnavailable,
)
from persistence.memory_store import MemoryStore
from persistence.writer import Writer


@pytest.fixture
def store() -> Scripted:
    return Scripted()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def lost() -> threading.Event:
    return threading.Event()


@pytest.fixture
def writer(store: Scripted, log: Log, lost: threading.Event) -> Iterator[Writer]:
    writer = Writer(store, log=log, on_ownership_lost=lambda _reason: lost.set(), retry=(0.001, 0.004))
    writer.start()
    yield writer
    store.gate.set()
    store.trouble = lambda _batch, _rows: None
    writer.stop(SOON)


def test_while_one_commit_runs_the_next_batch_gathers(store, writer):
    outcomes = Outcomes()
    store.gate.clear()
    writer.submit(step("first"), outcomes)
    store.wait_for_a_commit()
    for number in range(50):
        writer.submit(step(f"c{number}"), outcomes)
    store.gate.set()
    outcomes.wait(51)
    assert [len(batch) for batch in store.batches] == [1, 50]
    assert all(isinstance(outcome, Committed) for outcome in outcomes.all)
    stats = writer.stats()
    assert (stats["commits"], stats["appends"], stats["largest_commit"]) == (2, 51, 50)


def test_a_batch_has_at_most_the_agreed_size(store):
    writer, outcomes = Writer(store, max_batch=4), Outcomes()
    for number in range(10):
        writer.submit(step(f"c{number}"), outcomes)
    writer.start()
    outcomes.wait(10)
    assert writer.stop(SOON)
    assert [len(batch) for batch in store.batches] == [4, 4, 2]


def test_each_conversation_keeps_its_order(store, writer):
    outcomes = Outcomes()

    def speak(key: str) -> None:
        for seq in range(100):
            writer.submit(step(key, seq), outcomes)

    speakers = [threading.Thread(target=speak, args=(key,)) for key in "abcd"]
    for speaker in speakers:
        speaker.start()
    outcomes.wait(400)
    assert all(isinstance(outcome, Committed) for outcome in outcomes.all)
    for key in "abcd":
        assert [o.last_seq for o in outcomes.all if o.conversation_id == key] == list(range(1, 101))


def test_an_unavailable_store_is_tried_until_it_works(store, writer, log):
    outcomes, tries, seen = Outcomes(), [], []

    def trouble(batch: Sequence[Append], _rows: Any) -> None:
        tries.append(tuple(batch))
        seen.append(writer.available)
        if len(tries) <= 5:
            raise StoreUnavailable("the disk is full")

    store.trouble = trouble
    writer.submit(step(), outcomes)
    assert outcomes.wait(1) == [Committed("c1", 1)]
    assert len(set(tries)) == 1 and len(tries) == 6
    assert seen == [True] + [False] * 5
    assert writer.available and writer.last_error is None
    assert writer.stats()["retries"] == 5
    assert log.events() == ["store_unavailable", "store_available"]


def test_while_the_store_is_unavailable_it_says_why_and_others_may_submit(store, writer):
    outcomes, closed = Outcomes(), threading.Event()

    def trouble(_batch: Any, _rows: Any) -> None:
        if not closed.is_set():
            raise StoreUnavailable("gone")

    store.trouble = trouble
    writer.submit(step(), outcomes)
    store.wait_for_a_commit()
    store.wait_for_a_commit()
    assert not writer.available and writer.last_error == "gone"
    writer.submit(step("c2"), outcomes)
    assert outcomes.all == []
    closed.set()
    outcomes.wait(2)


def test_a_step_that_cannot_be_stored_is_refused_alone(store, log):
    """The poisoned step's later siblings are refused with it; every other conversation goes on."""
    writer, outcomes = Writer(store, log=log), Outcomes()

    def trouble(batch: Sequence[Append], _rows: Any) -> None:
        if any(append.phase == "poison" for append in batch):
            raise OverflowError("too large")

    store.trouble = trouble
    metric = MetricRow(1, "m", 1.0, "s")
    batch = [step("a"), step("b", phase="poison"), step("a", 1), step("b", 1), step("c"), step("b", 2)]
    writer.submit_row(metric)
    for append in batch:
        writer.submit(append, outcomes)
    writer.start()
    outcomes.wait(6)
    assert writer.stop(SOON)
    told = [getattr(outcome, "code", "committed") for outcome in outcomes.all]
    conflict = "sequence_conflict"
    assert told == ["committed", "poisoned", "committed", conflict, "committed", conflict]
    assert "OverflowError: too large" in outcomes.all[1].detail
    assert [store.load(key, recent=1).last_seq for key in "abc"] == [2, 0, 1]
    assert log.events() == ["append_poisoned"]
    assert log.lines[0][1]["conversation_id"] == "b"
    assert store.data.metrics == [metric]


def test_rows_that_cannot_be_stored_harm_neither_the_steps_nor_other_rows(store, log):
    writer, outcomes = Writer(store, log=log), Outcomes()

    def trouble(_batch: Any, rows: Sequence[Any]) -> None:
        if any(isinstance(row, MetricRow) and row.value < 0 for row in rows):
            raise ValueError("negative")

    store.trouble = trouble
    writer.submit_rows([MetricRow(at, "m", float(at), "s") for at in (1, -1, 2, -2, 3)])
    kept: list[bool] = []
    writer.submit_row(DeadLetterRow(at=1, address="a", reason="r", kind="k", body=b""), kept.append)
    writer.submit_row(MetricRow(-3, "m", -3.0, "s"), kept.append)
    writer.submit(step(), outcomes)
    writer.start()
    assert outcomes.wait(1) == [Committed("c1", 1)]
    assert writer.stop(SOON)
    assert (writer.stats()["rows"], writer.stats()["rows_dropped"]) == (4, 3)
    assert [row.at for row in store.data.metrics] == [1, 2, 3]
    assert len(store.dead_letters(after=0, limit=9)) == 1
    assert kept == [True, False]
    assert log.events() == ["rows_dropped"]
    assert log.lines[0][1]["rows"] == 3


def test_rows_apart_are_not_waited_for_when_the_store_goes_away_meanwhile(store, log):
    """Each try of a store that is away takes seconds, and steps would wait behind them."""
    writer, kept = Writer(store, log=log), []
    tries: list[int] = []

    def trouble(_batch: Any, rows: Sequence[Any]) -> None:
        if rows:
            tries.append(len(rows))
            raise ValueError("odd") if len(tries) < 3 else StoreUnavailable("away")

    store.trouble = trouble
    for at in range(8):
        writer.submit_row(MetricRow(at, "m", 1.0, "s"), kept.append)
    writer.start()
    assert writer.stop(SOON)
    assert tries == [8, 8, 4], "with the steps, apart, and the first half"
    assert kept == [False] * 8
    assert writer.stats()["rows_dropped"] == 8
    assert log.events() == ["rows_dropped"]


def test_rows_of_which_none_can_be_stored_are_not_tried_one_by_one(store, log):
    """Two thousand commits would hold up every step."""
    writer, outcomes = Writer(store, log=log), Outcomes()
    tries: list[int] = []

    def trouble(_batch: Any, rows: Sequence[Any]) -> None:
        if rows:
            tries.append(len(rows))
            raise ValueError("odd")

    store.trouble = trouble
    writer.submit_rows([MetricRow(at, "m", 1.0, "s") for at in range(2_000)])
    writer.submit(step(), outcomes)
    writer.start()
    assert outcomes.wait(1) == [Committed("c1", 1)]
    assert writer.stop(SOON)
    assert len(tries) <= 3 * 60, "for each of the three commits that they come in"
    assert (writer.stats()["rows"], writer.stats()["rows_dropped"]) == (0, 2_000)


def test_a_backlog_closes_the_doors_but_loses_no_step(store):
    writer = Writer(store, max_batch=2, max_pending=3)
    store.gate.clear()
    outcomes = Outcomes()
    writer.start()
    writer.submit(step("first"), outcomes)
    store.wait_for_a_commit()
    for number in range(5):
        assert writer.available == (number < 3)
        writer.submit(step(f"c{number}"), outcomes)
    assert writer.last_error == writer.stats()["last_error"] == "5 steps wait to be written"
    store.gate.set()
    assert all(isinstance(outcome, Committed) for outcome in outcomes.wait(6))
    assert writer.available
    assert writer.stop(SOON)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_that_ends_the_writer_leaves_nobody_waiting(store, writer):
    outcomes = Outcomes()
    commit, store.commit = store.commit, lambda batch, _rows: commit(batch)[1:]  # one outcome too few
    store.gate.clear()
    writer.submit(step("in hand"), outcomes)
    store.wait_for_a_commit()
    writer.submit(step("waiting"), outcomes)
    store.gate.set()
    outcomes.wait(2)
    assert writer.stop(SOON)
    assert not writer.available
    writer.submit(step("too late"), outcomes)
    found = [(outcome.conversation_id, outcome.code) for outcome in outcomes.wait(1)]
    assert found == [("in hand", "not_owner"), ("waiting", "not_owner"), ("too late", "not_owner")]


def test_after_ownership_is_lost_nobody_waits_and_the_daemon_is_told(store, writer, lost):
    outcomes = Outcomes()
    store.gate.clear()
    writer.submit(step("a"), outcomes)
    store.wait_for_a_commit()
    writer.submit(step("b"), outcomes)
    MemoryStore(store.data).open("somebody else")
    store.gate.set()
    outcomes.wait(2)
    assert lost.wait(SOON)
    writer.submit(step("c"), outcomes)
    assert [(o.conversation_id, o.code) for o in outcomes.all] == [(key, "not_owner") for key in "abc"]
    assert not writer.available
    assert not writer.submit_row(MetricRow(1, "m", 1.0, "s"))
    assert store.data.conversations == {}


def test_what_was_durable_before_ownership_was_lost_is_told_so(store, log, lost):
    """While a poisoned batch is committed one by one, the store can be taken over in the middle."""
    writer, outcomes = Writer(store, log=log, on_ownership_lost=lambda _reason: lost.set()), Outcomes()

    def trouble(batch: Sequence[Append], _rows: Any) -> None:
        if len(batch) > 1:
            raise ValueError("one of them is bad")
        if batch[0].conversation_id == "b":
            raise OwnershipLost("somebody else")

    store.trouble = trouble
    for key in "abc":
        writer.submit(step(key), outcomes)
    writer.start()
    outcomes.wait(3)
    assert lost.wait(SOON)
    assert [getattr(o, "code", "committed") for o in outcomes.all][:2] == ["committed", "not_owner"]


def test_a_listener_in_trouble_harms_nobody(store, writer, log):
    outcomes = Outcomes()

    def listener(_outcome: Any) -> None:
        raise RuntimeError("listener")

    writer.submit(step("a"), listener)
    writer.submit(step("b"), outcomes)
    assert outcomes.wait(1) == [Committed("b", 1)]
    assert log.events() == ["commit_callback_failed"]


def second_commit(store, writer, *rows):
    """Have rows and a step wait while another commit is under way; return how many rows go with the step."""
    outcomes = Outcomes()
    store.gate.clear()
    writer.submit(step("a"), outcomes)
    store.wait_for_a_commit()
    assert all(writer.submit_row(row) for row in rows)
    writer.submit(step("b"), outcomes)
    store.gate.set()
    outcomes.wait(2)
    assert len(store.batches) == 2
    return len(store.data.metrics) + len(store.data.dead_letters)


METRIC = MetricRow(1, "m", 1.0, "s")


def test_a_commit_that_somebody_waits_for_carries_no_rows_that_have_time(store, writer, monkeypatch):
    monkeypatch.setattr(writer_intake, "_ROWS_WAIT", 60.0)
    assert second_commit(store, writer, *[METRIC] * 50) == 0
    assert writer.stop(SOON)
    assert len(store.data.metrics) == 50


def test_rows_ride_along_once_one_of_them_has_waited_long_enough(store, writer, monkeypatch):
    monkeypatch.setattr(writer_intake, "_ROWS_WAIT", 0.0)
    assert second_commit(store, writer, METRIC, METRIC) == 2


def test_rows_ride_along_once_there_are_many(store, writer, monkeypatch):
    monkeypatch.setattr(writer_intake, "_ROWS_PILED_UP", 5)
    assert second_commit(store, writer, *[METRIC] * 5) == 5


def test_a_dead_letter_rides_along_at_once_and_takes_the_other_rows_with_it(store, writer):
    assert second_commit(store, writer, METRIC, DeadLetterRow(1, "a", "r", "k", b"{}")) == 2


def test_rows_wait_for_company_before_they_get_a_commit_of_their_own(store, monkeypatch):
    monkeypatch.setattr(writer_intake, "_ROWS_WAIT", 0.8)
    writer = Writer(store)
    writer.start()
    began = time.monotonic()
    for _ in range(3):
        writer.submit_row(MetricRow(1, "m", 1.0, "s"))
    store.wait_for_a_commit()
    assert time.monotonic() - began >= 0.8
    assert writer.stop(SOON)
    assert store.batches == [()]
    assert len(store.data.metrics) == 3


def test_too_many_rows_are_dropped_and_counted(store, monkeypatch):
    monkeypatch.setattr(writer_intake, "_MAX_ROWS", 5)
    writer = Writer(store)
    assert [writer.submit_row(MetricRow(n, "m", 1.0, "s")) for n in range(7)] == [True] * 5 + [False] * 2
    writer.start()
    assert writer.stop(SOON)
    assert (writer.stats()["rows"], writer.stats()["rows_dropped"]) == (5, 2)
    assert [row.at for row in store.data.metrics] == [0, 1, 2, 3, 4]


def test_of_many_rows_the_first_are_taken_and_none_after_the_end(store, monkeypatch):
    monkeypatch.setattr(writer_intake, "_MAX_ROWS", 5)
    writer = Writer(store)
    rows = [MetricRow(at, "m", 1.0, "s") for at in range(9)]
    assert [writer.submit_rows(some) for some in (rows[:3], [], rows[3:], rows[3:])] == [3, 0, 2, 0]
    writer.start()
    assert writer.stop(SOON)
    assert [row.at for row in store.data.metrics] == [0, 1, 2, 3, 4]
    assert writer.submit_rows(rows) == 0
    assert (writer.stats()["rows"], writer.stats()["rows_dropped"]) == (5, 19)


def test_no_rows_are_taken_after_ownership_was_lost(store, writer, lost):
    store.trouble = lambda _batch, _rows: (_ for _ in ()).throw(OwnershipLost("epoch 2"))
    writer.submit(step(), lambda _outcome: None)
    assert lost.wait(SOON)
    assert writer.submit_rows([MetricRow(1, "m", 1.0, "s")] * 3) == 0
    assert not writer.submit_row(DeadLetterRow(at=1, address="a", reason="r", kind="k", body=b""))


def test_an_ownership_lost_while_rows_are_written_apart_is_noticed_at_once(store, writer, lost, monkeypatch):
    monkeypatch.setattr(writer_intake, "_ROWS_PILED_UP", 1)
    outcomes, kept = Outcomes(), []

    def trouble(batch: Sequence[Append], rows: Any) -> None:
        if rows:
            raise ValueError("one of them is bad") if batch else OwnershipLost("epoch 2")

    store.trouble = trouble
    assert writer.submit_row(METRIC, kept.append)
    writer.submit(step(), outcomes)
    assert lost.wait(SOON)
    assert (outcomes.all, kept) == ([Committed("c1", 1)], [False]), "the step is durable, the row is not"


def test_stop_commits_what_waits(store, writer):
    outcomes = Outcomes()
    store.gate.clear()
    for seq in range(20):
        writer.submit(step("c1", seq), outcomes)
    writer.submit_row(MetricRow(1, "m", 1.0, "s"))
    stopped: list[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(writer.stop(SOON)))
    stopper.start()
    store.gate.set()
    stopper.join(SOON)
    assert stopped == [True]
    assert store.load("c1", recent=1).last_seq == 20
    assert len(store.data.metrics) == 1
    writer.submit(step("late"), outcomes)
    assert outcomes.all[-1].code == "not_owner"


def test_stop_says_that_an_unavailable_store_did_not_take_everything(store, writer):
    outcomes = Outcomes()

    def trouble(_batch: Any, _rows: Any) -> None:
        raise StoreUnavailable("gone")

    store.trouble = trouble
    writer.submit(step(), outcomes)
    store.wait_for_a_commit()
    assert not writer.stop(SOON)
    assert outcomes.all == []
    assert writer.stats()["pending"] == 1


def test_stop_in_the_middle_of_an_isolation_neither_hangs_nor_lies(store):
    writer, outcomes = Writer(store), Outcomes()

    def trouble(batch: Sequence[Append], _rows: Any) -> None:
        if len(batch) > 1:
            raise ValueError("one of them is bad")
        raise StoreUnavailable("gone")

    store.trouble = trouble
    for key in "ab":
        writer.submit(step(key), outcomes)
    writer.start()
    store.wait_for_a_commit()
    store.wait_for_a_commit()
    assert not writer.stop(SOON)
    assert outcomes.all == []


def test_a_writer_that_never_started_stops_at_once(store):
    assert Writer(store).stop(0)


class TestDeadLetters:
    """They hold messages: in a long outage their number alone bounds nothing."""

    def letter(self, size: int = 100) -> DeadLetterRow:
        return DeadLetterRow(1, "", "", "", b"x" * size)

    def test_what_waits_is_bounded_by_bytes_while_the_store_is_away_and_there_is_room_again_afterwards(
        self, store, writer, monkeypatch
    ):
        monkeypatch.setattr(writer_intake, "_MAX_LETTER_BYTES", 350)
        away = threading.Event()
        away.set()

        def trouble(_batch, _rows):
            if away.is_set():
                raise StoreUnavailable("nobody is there")

        store.trouble = trouble
        kept = Outcomes()
        assert writer.submit_row(self.letter(), kept)
        store.wait_for_a_commit()  # it is in hand now, and holds its memory all the same
        assert [writer.submit_row(self.letter(), kept) for _ in range(3)] == [True, True, False]
        assert writer.submit_row(self.letter(50), kept)
        assert writer.submit_row(MetricRow(1, "m", 1.0, "s")), "what is logged has room of its own"
        figures = writer.stats()
        assert (figures["letter_bytes"], figures["rows_dropped"]) == (350, 1)
        away.clear()
        assert kept.wait(4) == [True] * 4
        until_room(writer)
        assert len(store.dead_letters(after=0, limit=9)) == 4
        assert writer.submit_row(self.letter(350), kept)
        assert kept.wait(1)[-1] is True
        until_room(writer)
        assert writer.submit_row(self.letter(1), Outcomes())

    def test_letters_the_store_cannot_take_leave_their_room(self, store, writer, monkeypatch):
        monkeypatch.setattr(writer_intake, "_MAX_LETTER_BYTES", 100)

        def poisoned(_batch, rows):
            if rows:
                raise ValueError("not this one")

        store.trouble = poisoned
        for _ in range(3):
            kept = Outcomes()
            assert writer.submit_row(self.letter(), kept)
            assert kept.wait(1) == [False]
            until_room(writer)


def until_room(writer: Writer) -> None:
    """The room is given back just after the answer."""
    deadline = time.monotonic() + SOON
    while writer.stats()["letter_bytes"]:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


class TestSilence:
    """A store that says nothing counts as gone long before its driver gives it up."""

    def test_the_doors_close_while_a_commit_takes_too_long_and_open_when_it_is_done(self, store, log):
        now = [100.0]
        writer, outcomes = Writer(store, log=log, clock=lambda: now[0]), Outcomes()
        writer.start()
        store.gate.clear()
        writer.submit(step("a"), outcomes)
        store.wait_for_a_commit()
        now[0] += writer_module.PATIENCE - 0.1
        writer.look()
        assert (writer.stalled, writer.available) == (None, True)
        now[0] += 0.1
        writer.look()
        writer.look()
        assert writer.stalled == writer.last_error == f"{writer._store.kind} has confirmed nothing for 4 s"
        store.gate.set()
        assert outcomes.wait(1) == [Committed("a", 1)]
        assert (writer.stalled, writer.last_error) == (None, None)
        assert log.events() == ["store_unavailable", "store_available"]
        now[0] += 100
        writer.look()
        assert writer.available, "an idle writer waits for nobody"
        assert writer.stop(SOON)

    def test_what_a_silent_store_says_at_last_is_logged_too(self, store, log):
        """Else nobody would learn why it was silent."""
        now, outcomes = [100.0], Outcomes()
        writer = Writer(store, log=log, clock=lambda: now[0], retry=(0.001, 0.004))
        answers = iter(["database is locked"] * 2)

        def away(_batch, _rows):
            reason = next(answers, None)
            if reason is not None:
                now[0] += 100.0
                writer.look()
                raise StoreUnavailable(reason)

        store.trouble = away
        writer.submit(step("a"), outcomes)
        writer.start()
        assert outcomes.wait(1) == [Committed("a", 1)]
        assert writer.stop(SOON)
        said = [fields["error_message"] for event, fields in log.lines if event == "store_unavailable"]
        assert [text.rpartition(" for ")[0] or text for text in said] == [
            f"{store.kind} has confirmed nothing",
            "database is locked",
        ]

    def test_one_that_falls_silent_over_rows_written_apart_is_noticed_and_holds_up_no_step(
        self, store, log, monkeypatch
    ):
        monkeypatch.setattr(writer_intake, "_ROWS_PILED_UP", 1)
        now, outcomes, kept = [100.0], Outcomes(), Outcomes()
        writer = Writer(store, log=log, clock=lambda: now[0])
        steps_in, rows_in = threading.Event(), threading.Event()

        def trouble(batch: Sequence[Append], rows: Any) -> None:
            if batch and rows:
                raise ValueError("one of them is bad")
            if rows:
                rows_in.set()
                assert steps_in.wait(SOON)

        store.trouble = trouble
        assert writer.submit_row(METRIC, kept)
        writer.submit(step(), outcomes)
        writer.start()
        assert rows_in.wait(SOON)
        assert outcomes.wait(1) == [Committed("c1", 1)], "told before the rows are written"
        now[0] += writer_module.PATIENCE
        writer.look()
        assert not writer.available
        steps_in.set()
        assert kept.wait(1) == [True]
        assert writer.available
        assert log.events() == ["store_unavailable", "store_available"]
        assert writer.stop(SOON)

    def test_a_store_that_is_away_counts_from_the_first_try_on(self, store, log):
        now, outcomes = [100.0], Outcomes()
        writer = Writer(store, log=log, clock=lambda: now[0], retry=(0.001, 0.004))

        def away(_batch, _rows):
            now[0] += 1.0
            if now[0] < 110.0:
                raise StoreUnavailable("nobody is there")
            assert writer.stalled == "nobody is there"

        store.trouble = away
        writer.submit(step("a"), outcomes)
        writer.start()
        assert outcomes.wait(1) == [Committed("a", 1)]
        assert writer.stalled is None
        assert log.events() == ["store_unavailable", "store_available"]
        assert writer.stop(SOON)

    def test_stopping_waits_not_long_for_a_store_that_was_silent_before(self, store, monkeypatch):
        monkeypatch.setattr(writer_module, "_LAST_WORDS", 0.05)
        now, outcomes = [100.0], Outcomes()
        writer = Writer(store, clock=lambda: now[0])
        writer.start()
        store.gate.clear()
        writer.submit(step("a"), outcomes)
        store.wait_for_a_commit()
        now[0] += 100.0
        began = time.monotonic()
        assert not writer.stop(SOON)
        assert time.monotonic() - began < SOON / 2
        store.gate.set()
        assert outcomes.wait(1) == [Committed("a", 1)]


def test_a_crowd_of_steps_carries_as_many_rows_as_it_brings_about(store, writer):
    """Else rows are dropped as soon as enough callers keep the writer at work, though the store takes them all."""
    outcomes = Outcomes()
    store.gate.clear()
    writer.submit(step("first"), outcomes)
    store.wait_for_a_commit()
    for number in range(400):
        writer.submit(step(f"c{number}"), outcomes)
    assert writer.submit_rows([MetricRow(at, "m", 1.0, "s") for at in range(2_000)]) == 2_000
    store.gate.set()
    outcomes.wait(401)
    assert (writer.stats()["commits"], writer.stats()["rows"]) == (2, 2_000)
