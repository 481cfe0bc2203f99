"""What the rows of a Postgres store may hold, its views, and that no error tells a password."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import Server, until
from psycopg import conninfo
from store_samples import commit, full_step, result, said, step

from persistence.contract import (
    AppendRefused,
    Committed,
    DeadLetterRow,
    InboxRow,
    MemoryRow,
    MetricRow,
    StoreUnavailable,
    operation_row,
)
from persistence.postgres_store import PostgresStore
from persistence.writer import Writer

Make = Callable[..., PostgresStore]


class TestRows:
    def test_a_row_that_cannot_be_stored_hits_only_its_own_step(self, opened: Make) -> None:
        store = opened()
        writer = Writer(store)
        told: dict[str, Any] = {}
        endless = os.urandom(20_000).hex()  # more than an index takes
        poisoned = {
            "index": step("index", inbox=(InboxRow(endless, "r1", "p", 1),)),
            "number": step("number", memory=(MemoryRow(1, "user", "r1", "text", 2**70),)),
            "twice": step("twice", inbox=(InboxRow("m", "r", "p", 1), InboxRow("m", "r", "p", 1))),
            "surrogate": step("surrogate", memory=(said(1, "\ud800"),)),
        }
        for key, append in poisoned.items():
            for each in (step(f"before {key}"), append, step(f"after {key}"), step(key, 1)):
                writer.submit(
                    each,
                    lambda outcome, key=each.conversation_id, seq=each.last_seq: told.update({f"{key} {seq}": outcome}),
                )
        writer.start()
        assert writer.stop(20)
        for key in poisoned:
            assert isinstance(told[f"before {key} 1"], Committed)
            assert isinstance(told[f"after {key} 1"], Committed)
            assert told[f"{key} 1"].code == "poisoned"
            assert isinstance(told[f"{key} 2"], AppendRefused)
            assert store.conversation(key) is None

    def test_every_text_and_body_comes_back(self, opened: Make) -> None:
        store = opened()
        texts = [
            "\0",
            "\x01",
            "\x01\x01",
            "\x01\x02\0\x02",
            "a\0b\x01c",
            "東京 🎈 \u202e é é",
            "\\x00 \\ ' \" {} ,",
            "x" * (1 << 20),
        ]
        for number, text in enumerate(texts):
            key = f"c{number} {text[:40]}"
            body = (text * 2).encode() + bytes(range(256))
            append = step(
                key,
                entry=body,
                snapshot=body,
                user_id=text[:99],
                memory=(said(1, text),),
                results=(result(f"r{text[:40]}", node=text[:40], body=body),),
                inbox=(InboxRow(text[:40], f"r{text[:40]}", text[:40], 1),),
            )
            commit(
                store,
                append,
                rows=[DeadLetterRow(1, text, text, text, body), operation_row(1, text, "i", key, None, {text: 1})],
            )
            loaded = store.load(key, recent=9)
            assert (loaded.snapshot, loaded.memory[0].text) == (body, text)
            assert store.entries(key, after=0, limit=1)[0].body == body
            assert store.results(key, [f"r{text[:40]}"]) == list(append.results)
            assert store.find_message(key, text[:40]) == append.inbox[0]
            row = store.conversation(key)
            assert row is not None and (row.conversation_id, row.user_id) == (key, text[:99])
            letter = store.dead_letters(after=number, limit=1)[0]
            assert (letter.address, letter.reason, letter.kind, letter.body) == (text, text, text, body)
        assert len(store.conversations(phase=None, after=None, limit=99)) == len(texts)

    def test_hourly_views_summarise(self, server: Server, dsn: str, opened: Make) -> None:
        hour = 3_600_000
        measured = [(1, 1.0), (2, 3.0), (hour, 5.0)]
        commit(
            opened(), full_step(), rows=[MetricRow(at, "agent_ms", value, "ms", "c1", "a") for at, value in measured]
        )
        performance = "SELECT hour, samples, mean, least, most FROM orchestrator_performance_hourly ORDER BY hour"
        assert server.run(performance, dsn) == [
            ("1970-01-01T00:00Z", 2, 2.0, 1.0, 3.0),
            ("1970-01-01T01:00Z", 1, 5.0, 5.0, 5.0),
        ]
        errors = "SELECT hour, agent, errors, retried FROM orchestrator_errors_hourly"
        assert server.run(errors, dsn) == [("1970-01-01T00:00Z", "a", 1, 0)]


class TestWords:
    @pytest.mark.parametrize(
        "dsn",
        [
            "postgresql://user:hunter2@127.0.0.1:1/x",
            "postgresql://user:hunter2@127.0.0.1:port/x",
            "postgresql://user:hunter2@[::1/x",
            "host=127.0.0.1 port=1 password='hunter2 x'",
            "host=127.0.0.1 hunter2",
            "password=hunter2 sslmode=hunter2 host=127.0.0.1",
        ],
    )
    def test_no_error_tells_the_password(self, dsn: str) -> None:
        store = PostgresStore(dsn)
        for ask in (lambda: store.open("one"), store.migration_status):
            with pytest.raises(StoreUnavailable) as caught:
                ask()
            seen = caught.value
            assert "hunter2" not in str(seen)
            assert seen.__cause__ is None and seen.__suppress_context__
        assert "hunter2" not in repr(store)

    def test_a_wrong_password_is_not_told_and_an_odd_one_is_right(self, server: Server, dsn: str) -> None:
        right = "p@ss/w:rd %41 'ü&?#="
        database = conninfo.conninfo_to_dict(dsn)["dbname"]
        rules = Path(str(server._server.pgdata)) / "pg_hba.conf"
        before = rules.read_text()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE ROLE locked LOGIN")
            connection.execute(psycopg.sql.SQL("ALTER ROLE locked PASSWORD {}").format(psycopg.sql.Literal(right)))
            connection.execute(f"ALTER DATABASE {database} OWNER TO locked")
        rules.write_text("local all locked scram-sha-256\n" + before)
        try:
            server.run("SELECT pg_reload_conf()")
            wrong = PostgresStore(conninfo.make_conninfo(dsn, user="locked", password="hunter2"))

            def said_() -> str:
                try:
                    wrong.open("one")
                except StoreUnavailable as error:
                    return str(error)
                wrong.close()  # the rules are read anew by and by
                return ""

            until(lambda: "password authentication failed" in said_())
            assert "hunter2" not in said_()
            store = PostgresStore(conninfo.make_conninfo(dsn, user="locked", password=right))
            store.open("one")
            commit(store, step())
            assert store.conversation("c1") is not None
            store.close()
        finally:
            rules.write_text(before)
            server.run("SELECT pg_reload_conf()")
