"""The Postgres store whose server takes no writes: full, read-only, locked, in conflict; and what health tells."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

import psycopg
import pytest
from postgres_obstacles import configured, in_time, small_disk, taken
from postgres_server import Server, until
from psycopg import conninfo
from store_samples import commit, result, step

from persistence.contract import (
    StoreError,
    StoreUnavailable,
)
from persistence.postgres_store import PostgresStore

Make = Callable[..., PostgresStore]


class TestServerRefuses:
    def test_a_full_disk_is_unavailable_until_there_is_room(self, server: Server, opened: Make) -> None:
        with small_disk(server) as (folder, dsn):
            store = opened(dsn)
            commit(store, step())
            with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
                while filler.write(bytes(1 << 16)):
                    continue
            big = [step("c1", 1, results=(result("r1", body=os.urandom(4 << 20)),)), step("c2")]
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="53100"):
                    store.commit(big)
            assert store.load("c1", recent=1).last_seq == 1
            (folder / "filler").unlink()
            commit(store, *big)
            assert len(store.results("c1", ["r1"])[0].body) == 4 << 20
            store.close()

    def test_a_server_that_became_read_only_is_unavailable_until_it_takes_writes(
        self, server: Server, dsn: str, opened: Make
    ) -> None:
        store = opened()
        commit(store, step())
        with configured(server, "default_transaction_read_only", "on"):
            _refused_soon(store)
            with pytest.raises(StoreUnavailable, match="read-only"):
                PostgresStore(dsn).open("two")
        until(lambda: taken(store, [step("c1", 1)], []))
        assert len(store.entries("c1", after=0, limit=9)) == 2

    @pytest.mark.usefixtures("impatient")
    def test_a_locked_table_is_unavailable_in_time(self, dsn: str, opened: Make) -> None:
        store = opened()
        with psycopg.connect(dsn) as other:
            other.execute("LOCK TABLE orchestrator_journal IN ACCESS EXCLUSIVE MODE")
            in_time(3, lambda: store.commit([step()]), "55P03|57014")
        commit(store, step())

    @pytest.mark.parametrize(("level", "code"), [("read committed", "40P01"), ("repeatable read", "40001")])
    def test_a_conflict_with_somebody_else_refuses_no_step(
        self, server: Server, dsn: str, opened: Make, level: str, code: str
    ) -> None:
        """A deadlock, and a row that changed under a stricter isolation: the same batch goes through afterwards."""
        options = f"-c deadlock_timeout=300ms -c default_transaction_isolation={level}".replace(
            level, level.replace(" ", r"\ ")
        )
        store = opened(conninfo.make_conninfo(dsn, options=options))
        commit(store, step())
        raised: list[BaseException] = []

        def write() -> None:
            try:
                store.commit([step("c1", 1), step("c2")])
            except StoreError as error:
                raised.append(error)

        with psycopg.connect(dsn) as other:
            other.execute("SET deadlock_timeout = '30s'")
            other.execute("UPDATE orchestrator_workflow_states SET user_id = 'x'")
            writing = threading.Thread(target=write)
            writing.start()
            waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            until(lambda: server.run(waits, dsn))
            if code == "40P01":
                other.execute("SELECT * FROM orchestrator_ownership FOR UPDATE")
            other.commit()
        writing.join(10)
        assert [type(error) for error in raised] == [StoreUnavailable]
        assert code in str(raised[0])
        commit(store, step("c1", 1), step("c2"))

    def test_health_names_what_can_be_lost(self, server: Server, opened: Make) -> None:
        store = opened()
        safe = store.health()
        assert (safe.durable, safe.figures["epoch"]) == (True, 1.0)
        assert safe.figures["bytes"] > 1_000_000
        for setting in ("synchronous_commit", "fsync", "full_page_writes"):
            with configured(server, setting, "off"):
                # Each of the server's processes reads its settings again when it comes to it.
                until(lambda named=f"{setting} is off": named in store.health().detail)
                until(lambda: not store.health().durable)
            until(lambda: store.health().durable)


def _refused_soon(store: PostgresStore) -> None:
    def refused() -> bool:
        try:
            store.commit([])
        except StoreUnavailable as error:
            return "25006" in str(error) or "read-only" in str(error)
        return False

    until(refused)
