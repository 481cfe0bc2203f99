"""What is said of Postgres in trouble: the place and what happened, never the driver's state, our SQL or a password."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from postgres_server import Server
from psycopg import conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import PoolTimeout
from store_samples import step

from persistence.contract import StoreError, StoreUnavailable
from persistence.postgres_store import PostgresStore
from persistence.postgres_words import unavailable

Make = Callable[..., PostgresStore]
DSN = "host=db.example port=5433 dbname=orch user=me password=hunter2"
PLACE = "Postgres database orch at db.example:5433: "
BROKE = "the connection broke: the server went away or was restarted, or the network between was cut"
ON_DEMAND = "the server ended the connection: it was told to (a restart, a failover, or pg_terminate_backend)"
INTERNAL = re.compile(
    r"INERROR|INTRANS|is closed|is lost|consuming input|CONTEXT|SELECT|PL/pgSQL|PoolTimeout|\n|Error\b"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (psycopg.OperationalError("the connection is closed"), BROKE),
        (psycopg.OperationalError("the connection is lost"), BROKE),
        (psycopg.ProgrammingError("can't change 'autocommit' now: connection in transaction status INERROR"), BROKE),
        (psycopg.InterfaceError("cannot execute operations: the connection is in status 1"), BROKE),
        (psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly\n\tThis"), BROKE),
        (
            psycopg.OperationalError(
                "consuming input failed: terminating connection due to administrator command\nCONTEXT:  SQL SELECT 1"
            ),
            ON_DEMAND,
        ),
        (psycopg.errors.AdminShutdown("terminating connection"), f"{ON_DEMAND} (57P01)"),
        (
            psycopg.OperationalError(
                'connection is bad: connection to server on socket "/s" failed: Connection refused\n'
            ),
            "cannot be reached: Connection refused",
        ),
        (
            psycopg.OperationalError(
                'connection failed: connection to server at "::1", port 1 failed: FATAL:  the database system is '
                "starting up\nDETAIL: more"
            ),
            "cannot be reached: the database system is starting up",
        ),
        (psycopg.OperationalError("connection failed: SSL error"), "cannot be reached: SSL error"),
        (
            psycopg.OperationalError("connection is bad: could not translate host name x"),
            "the name of its host cannot be resolved",
        ),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), "no answer while connecting"),
        (psycopg.OperationalError("no answer within 35 s"), "no answer within 35 s"),
        (
            PoolTimeout("couldn't get a connection after 1.50 sec"),
            "no connection could be had in time: it is away, starting up, or takes no more connections",
        ),
        (psycopg.DataError("bad integer 'x'\nmore"), "DataError: bad integer 'x'"),
    ],
)
def test_each_trouble_has_words(error: psycopg.Error, words: str) -> None:
    assert str(unavailable(error, DSN)) == PLACE + words


def test_no_password_is_told_whoever_repeats_it() -> None:
    error = psycopg.OperationalError(f"connection failed: cannot read hunter2 in {DSN}")
    assert "hunter2" not in str(unavailable(error, DSN))
    url = "postgresql://me:hunter2@db.example:5433/orch"
    assert str(unavailable(psycopg.OperationalError("the connection is lost"), url)) == PLACE + BROKE
    assert str(unavailable(psycopg.OperationalError("x"), "dbname")) == f"Postgres: {BROKE}"


def test_connections_that_are_ended_under_load_are_told_of_in_words(server: Server, dsn: str, opened: Make) -> None:
    store = opened()
    said: set[str] = set()
    wrong: list[BaseException] = []
    stop = threading.Event()

    def keep(ask: Callable[[], object]) -> None:
        while not stop.is_set():
            try:
                ask()
            except StoreUnavailable as error:
                said.add(str(error))
                stop.wait(0.002)
            except Exception as error:  # noqa: BLE001  # collected: no row is to blame
                wrong.append(error)

    count = iter(range(10**9))
    asks = [
        lambda: store.commit([step(f"c{next(count)}")]),
        store.beat,
        store.health,
        lambda: store.load("c1", recent=5, whole=True),
    ]
    threads = [threading.Thread(target=keep, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orchestrator'"
    for _ in range(40):
        server.run(f"{end} AND datname = '{conninfo.conninfo_to_dict(dsn)['dbname']}'")
        stop.wait(0.02)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert said
    assert [line for line in said if INTERNAL.search(line)] == []
    assert all(line.startswith("Postgres database test_") for line in said), said


def test_a_connection_in_a_failed_transaction_is_no_rows_fault(opened: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver then says the same as of a value that cannot be sent; taken for that, a step was refused for good."""
    store = opened()
    assert store._writer is not None
    writer = store._writer
    writer.execute("BEGIN")
    with pytest.raises(psycopg.Error):
        writer.execute("SELECT 1 / 0")
    assert writer.pgconn.transaction_status == TransactionStatus.INERROR

    def ask(*_words: object) -> None:
        writer.autocommit = False

    monkeypatch.setattr(writer, "ask", ask)
    with pytest.raises(StoreUnavailable, match="the connection broke"):
        store.commit([step()])
    store.commit([step()])


def test_no_server_is_told_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=f"^Postgres database x at {tmp_path}: cannot be reached: No such file"
    ) as told:
        PostgresStore(f"host={tmp_path} dbname=x password=hunter2").open("one")
    assert "hunter2" not in str(told.value)
