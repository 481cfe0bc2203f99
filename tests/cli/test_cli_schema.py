"""`check` and `migrate` tell of a store's schema, bring it up to date, and never tell a password."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server, running
from typer.testing import CliRunner

import run
from building import build_store
from cli.app import build_app
from cli.commands import Commands
from config import load_settings
from persistence import migrations

Invoke = Callable[..., Any]


@pytest.fixture
def orch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Return how to run a verb on a data folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(tmp_path / "data"))
    commands = Commands(
        serve=run._serve,
        demo=run._demo,
        check=run._check,
        migrate=run._migrate,
        local_chat=run._local_chat,
        chaos=run._chaos,
    )

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(build_app(commands), list(arguments))

    return invoke


@pytest.fixture
def sql_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Configure a kind of SQL store that holds nothing yet."""
    monkeypatch.setenv("ORCHESTRATOR_STATE_STORAGE", request.param)
    if request.param == "postgres":
        monkeypatch.setenv("ORCHESTRATOR_POSTGRES_DSN", request.getfixturevalue("postgres_database"))
    return str(request.param)


both = pytest.mark.parametrize("sql_store", ["sqlite", "postgres"], indirect=True)


@both
def test_status_shows_what_is_missing_and_changes_nothing(orch: Invoke, sql_store: str) -> None:
    known = migrations.known(sql_store)
    for _ in range(2):
        shown = orch("migrate", "--status")
        assert (shown.exit_code, shown.stdout.split("\n")[:-1]) == (0, [f"{name} missing" for name in known])
    assert f"{len(known)} migration(s) to apply" in orch("check").stdout

    applied = orch("migrate", "--json")
    assert (applied.exit_code, json.loads(applied.stdout)) == (0, {"store": sql_store, "applied": known})
    assert json.loads(orch("migrate", "--status", "--json").stdout) == {
        "store": sql_store,
        "migrations": [{"name": name, "applied": True} for name in known],
    }
    assert orch("migrate").stdout == "the schema is up to date\n"
    assert orch("migrate", "--status").stdout.split("\n")[:-1] == [f"{name} applied" for name in known]
    checked = orch("check", "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["store"].startswith(sql_store)
    assert "to apply" not in checked.stdout


@both
def test_status_is_told_beside_a_daemon_that_owns_the_store_and_migrating_is_not_done(
    orch: Invoke, sql_store: str
) -> None:
    store = build_store(load_settings({}))
    store.open("somebody")
    try:
        assert orch("migrate", "--status").exit_code == 0
        assert orch("check").exit_code == 0
        refused = orch("migrate")
        assert (refused.exit_code, refused.stdout) == (75, "")
        assert "owned by another live daemon" in refused.stderr
    finally:
        store.close()


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_other_stores_have_no_schema(orch: Invoke, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("ORCHESTRATOR_STATE_STORAGE", kind)
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1")
    for arguments in ((), ("--status",)):
        shown = orch("migrate", *arguments)
        assert (shown.exit_code, shown.stdout) == (0, f"{kind}: there is no schema\n")
    assert json.loads(orch("migrate", "--status", "--json").stdout) == {"store": kind, "migrations": []}


def test_a_file_that_is_no_database_is_a_problem_and_no_crash(orch: Invoke, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "orchestrator.db").write_bytes(b"no database at all " * 100)
    checked = orch("check")
    assert (checked.exit_code, checked.stdout.splitlines()[-1]) == (78, "1 problem(s)")
    told = orch("migrate", "--status")
    assert (told.exit_code, told.stdout) == (75, "")
    assert "not a database" in told.stderr


@pytest.mark.parametrize("dsn", ["host=/nowhere password=hunter2", "postgresql://u:hunter2@[::1", "hunter2 = ="])
def test_no_verb_tells_a_password(orch: Invoke, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.setenv("ORCHESTRATOR_STATE_STORAGE", "postgres")
    monkeypatch.setenv("ORCHESTRATOR_POSTGRES_DSN", dsn)
    for arguments in (("check",), ("check", "--json"), ("migrate",), ("migrate", "--status")):
        told = orch(*arguments)
        assert told.exit_code in (75, 78)
        assert "hunter2" not in told.output + told.stderr + repr(told.exception)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def postgres_database(server: Server) -> str:
    return server.database()
