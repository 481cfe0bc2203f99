"""The Postgres store whose server was killed, is frozen, or whose answers get lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from postgres_obstacles import backend, frozen, in_time, proxy, taken
from postgres_server import Server, until
from store_samples import commit, full_step, step

from persistence import postgres_store
from persistence.contract import (
    Committed,
    DeadLetterRow,
    MetricRow,
    OwnershipLost,
    StoreUnavailable,
)
from persistence.postgres_store import PostgresStore

Make = Callable[..., PostgresStore]
ALONE = b"SELECT 1\0"
"""What the server says of a commit in one statement."""


class TestServerGone:
    def test_nothing_is_lost_or_doubled_when_the_server_is_killed_under_writes(
        self, server: Server, opened: Make
    ) -> None:
        store = opened()
        acknowledged = [0] * 3
        stop = threading.Event()

        def restart() -> None:
            try:
                for _ in range(2):
                    newest = acknowledged[0]
                    until(lambda newest=newest: acknowledged[0] > newest + 30)
                    server.kill()
                    server.start()
            finally:
                stop.set()

        killer = threading.Thread(target=restart)
        killer.start()
        trouble = 0
        for number in itertools.count():
            if stop.is_set():
                break
            batch = [full_step(f"c{n}", seq) for n, seq in enumerate(acknowledged)]
            while True:
                try:
                    outcomes = store.commit(batch, [DeadLetterRow(number, "a", "r", "k", b"{}")])
                except StoreUnavailable:
                    trouble += 1
                    stop.wait(0.02)
                    continue
                break
            assert [type(outcome) for outcome in outcomes] == [Committed] * 3
            acknowledged = [append.last_seq for append in batch]
        killer.join()
        assert trouble
        for n, last in enumerate(acknowledged):
            every = list(range(1, last + 1))
            assert [row.last_seq for row in store.entries(f"c{n}", after=0, limit=10**6)] == every
            assert [row.seq for row in store.memory(f"c{n}", first_seq=1, last_seq=last)] == every
            assert len(store.results(f"c{n}", [f"r{seq}" for seq in every])) == last
        letters = [row.at for row in store.dead_letters(after=0, limit=10**6)]
        assert letters == list(range(acknowledged[0]))

    @pytest.mark.parametrize("all_but_the_end", [False, True])
    def test_a_batch_whose_commit_was_done_and_its_answer_lost_is_committed_once(
        self, dsn: str, opened: Make, all_but_the_end: bool
    ) -> None:
        """A transaction ends after its statement said that it is done: only what is said last counts."""
        with proxy(dsn) as wire:
            wire.cut_after = all_but_the_end
            store = opened(wire.dsn)
            commit(store, step())
            batch = [full_step("c2"), step("c1", 1), full_step("c2", 1)]
            rows = [DeadLetterRow(1, "a", "r", "k", b"{}"), MetricRow(1, "m", 1.0, "s")]
            for lost, answer in enumerate((ALONE, b"COMMIT\0"), 1):  # the answer to the repetition may get lost too
                wire.cut_at = answer
                with pytest.raises(StoreUnavailable):
                    store.commit(batch, rows)
                assert wire.cuts == lost
                assert [row.last_seq for row in store.entries("c2", after=0, limit=9)] == [1, 2]
            commit(store, *batch, rows=rows)
            assert len(store.dead_letters(after=0, limit=9)) == 1
            assert [row.last_seq for row in store.entries("c1", after=0, limit=9)] == [1, 2]
            commit(store, rows=rows)  # the same rows, but not a repetition
            assert len(store.dead_letters(after=0, limit=9)) == 2

    def test_rows_alone_whose_answer_was_lost_are_written_once(self, dsn: str, opened: Make) -> None:
        """No step tells that they are there: only the number of the commit does."""
        with proxy(dsn) as wire:
            store = opened(wire.dsn)
            commit(store, step())
            rows = [DeadLetterRow(1, "a", "r", "k", b"{}")]
            wire.cut_at = ALONE
            with pytest.raises(StoreUnavailable):
                store.commit([], rows)
            commit(store, rows=rows)
            assert len(store.dead_letters(after=0, limit=9)) == 1

    def test_other_rows_after_a_lost_answer_are_nottaken_for_a_repetition(self, dsn: str, opened: Make) -> None:
        with proxy(dsn) as wire:
            store = opened(wire.dsn)
            wire.cut_at = ALONE
            with pytest.raises(StoreUnavailable):
                store.commit([step()], [DeadLetterRow(1, "a", "r", "k", b"{}")])
            commit(store, step(), step("c2"), rows=[DeadLetterRow(2, "a", "r", "k", b"{}")])
            assert [row.at for row in store.dead_letters(after=0, limit=9)] == [1, 2]

    def test_a_server_that_went_back_in_time_is_noticed(self, server: Server, dsn: str, opened: Make) -> None:
        store = opened()
        commit(store, step())
        server.run("UPDATE orchestrator_ownership SET last_commit = 0", dsn)
        with pytest.raises(OwnershipLost, match="knows commit 0 of this daemon, but acknowledged commit 1"):
            store.commit([step("c1", 1)])
        assert len(store.entries("c1", after=0, limit=9)) == 1

    @pytest.mark.usefixtures("impatient")
    def test_a_frozen_backend_is_unavailable_in_time_and_the_batch_goes_through_later(self, opened: Make) -> None:
        store = opened()
        commit(store, step())
        with frozen(backend(store)):
            in_time(3, lambda: store.commit([step("c1", 1)], [DeadLetterRow(1, "a", "r", "k", b"{}")]), "no answer")
            in_time(3, lambda: store.commit([step("c1", 1)], [DeadLetterRow(1, "a", "r", "k", b"{}")]))
            assert store.load("c1", recent=1).last_seq == 1
        until(lambda: taken(store, [step("c1", 1)], [DeadLetterRow(1, "a", "r", "k", b"{}")]))
        assert [row.last_seq for row in store.entries("c1", after=0, limit=9)] == [1, 2]
        assert len(store.dead_letters(after=0, limit=9)) == 1

    @pytest.mark.usefixtures("impatient")
    def test_a_frozen_server_is_unavailable_in_time_for_writing_reading_and_closing(
        self, server: Server, dsn: str, opened: Make
    ) -> None:
        store = opened(dsn + " connect_timeout=2")
        assert store.conversation("c1") is None
        postmaster = psutil.Process(server._server.get_pid())
        everybody = [process.pid for process in (postmaster, *postmaster.children(recursive=True))]
        with frozen(*everybody):
            in_time(3, lambda: store.conversation("c1"))
            in_time(3, lambda: store.commit([step()]))
            began = time.monotonic()
            store.close()
            assert time.monotonic() - began < 3

    def test_closing_waits_for_no_frozen_server(self, opened: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postgres_store, "_LAST_WORDS", 0.2)
        store = opened()
        with frozen(backend(store)):
            began = time.monotonic()
            store.close()
            assert time.monotonic() - began < 3

    def test_no_server_is_unavailable(self, tmp_path: Path) -> None:
        store = PostgresStore(f"host={tmp_path} dbname=x")
        for ask in (lambda: store.open("one"), store.health, store.migration_status, lambda: store.commit([step()])):
            with pytest.raises(StoreUnavailable):
                ask()
        store.close()
        store.close()
