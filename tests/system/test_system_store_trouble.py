"""A daemon whose store is frozen, slow or locked: it says so, loses nothing, and goes on by itself."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import httpx2
import pytest
from daemon_process import diamond, eventually
from redis_running import SERVER, redis_server

from config import Settings
from daemon import Daemon
from gateway.client import DaemonClient
from persistence import sqlite_store
from persistence.contract import StoreUnavailable
from serving import make_telemetry


class Troubled:
    """A store that does as it is told; everything else of it is the ordinary one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.frozen = False
        self.asked: list[str] = []
        self.slow = 0.0
        self.may_commit = threading.Event()
        """Cleared: commits wait."""
        self.may_commit.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _ask(self, name: str) -> None:
        if self.frozen:
            self.asked.append(name)
            raise StoreUnavailable("no answer in time")

    def health(self) -> Any:
        self._ask("health")
        return self._inner.health()

    def phase_counts(self) -> Any:
        self._ask("phase_counts")
        return self._inner.phase_counts()

    def conversations(self, **where: Any) -> Any:
        self._ask("conversations")
        return self._inner.conversations(**where)

    def commit(self, batch: Sequence[Any], rows: Sequence[Any] = ()) -> Any:
        assert self.may_commit.wait(20.0)
        if self.slow:
            threading.Event().wait(self.slow)
        return self._inner.commit(batch, rows)


@pytest.fixture
def running(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Daemon, Troubled, DaemonClient]]:
    monkeypatch.setitem(os.environ, "LEDGER", str(tmp_path / "ledger"))
    settings = Settings(
        data_dir=tmp_path, http_bind="127.0.0.1:0", agents_from="ledger_agents", log_level="CRITICAL", trace_all=False
    )
    telemetry = make_telemetry(settings)
    stores: list[Troubled] = []

    def wrap(store: Any) -> Any:
        stores.append(Troubled(store))
        return stores[-1]

    daemon = Daemon(settings, telemetry, wrap_store=wrap)
    daemon.start()
    try:
        assert daemon.http is not None
        with DaemonClient(daemon.http.url) as client:
            yield daemon, stores[0], client
    finally:
        daemon.stop()
        telemetry.close(1.0)


def test_a_frozen_store_is_asked_once_by_who_wants_the_status(running: Any) -> None:
    """Each question to it takes seconds: with several of them the status came too late for whoever asked."""
    _daemon, store, client = running
    store.frozen = True
    status = client.status()
    assert store.asked == ["health"]
    assert (status["store"]["available"], status["store"]["detail"]) == (False, "no answer in time")
    assert status["readiness"]["store"] == {"ok": False, "detail": "StoreUnavailable: no answer in time"}
    store.frozen = False
    assert client.status()["store"]["available"]


def test_with_a_slow_store_commits_grow_and_nothing_is_tried_again(running: Any) -> None:
    daemon, store, client = running
    store.slow = 0.3
    store.may_commit.clear()
    before = daemon.writer.stats()["commits"]
    with crowd(30, lambda number: client_of(daemon, number)):
        eventually(lambda: daemon.writer.stats()["pending"] >= 15, "they wait, however long it took them to come")
        store.may_commit.set()
    for number in range(30):
        eventually(lambda n=number: kinds(client, f"c{n}").count("reply.sent") == 1, f"the reply of {number}")
        seen = kinds(client, f"c{number}")
        assert (seen.count("node.started"), seen.count("node.succeeded"), seen.count("node.failed")) == (4, 4, 0)
    figures = daemon.writer.stats()
    assert figures["largest_commit"] >= 15, "what waited was committed together"
    assert figures["commits"] - before < 30
    assert figures["retries"] == 0


def test_a_locked_file_refuses_new_work_soon_and_what_waited_goes_through(
    running: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, _store, client = running
    connect = sqlite_store.connect

    def impatient(path: Any, *, read_only: bool = False) -> sqlite3.Connection:
        connection = connect(path, read_only=read_only)
        connection.execute("PRAGMA busy_timeout = 20")
        return connection

    monkeypatch.setattr(sqlite_store, "connect", impatient)
    daemon.store._inner._recover()
    with closing(sqlite3.connect(tmp_path / "orchestrator.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with crowd(3, lambda number: client_of(daemon, number)):
            refused = eventually(lambda: refusal(daemon), "new work is refused")
            assert refused.status_code == 503
            assert (refused.json()["code"], refused.headers["retry-after"]) == ("store_unavailable", "2")
            assert client.is_alive()
            assert client.readiness()["status"] == "not_ready"
            other.execute("ROLLBACK")
    for number in range(3):
        eventually(lambda n=number: kinds(client, f"c{n}").count("reply.sent") == 1, f"the reply of {number}")
    assert daemon.store.conversation("late") is None
    assert client.readiness()["status"] == "ready"


@pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")
def test_a_store_that_can_lose_what_was_acknowledged_is_named_at_the_start_and_whenever_it_is_asked(
    make_daemon: Any,
) -> None:
    with redis_server() as server:
        daemon = make_daemon(state_storage="redis", redis_url=server.url).start()
        assert daemon.wait_for("can lose what was acknowledged.*appendonly is off")
        with daemon.client() as client:
            store = client.readiness()["checks"]["store"]
            assert (store["ok"], store["durable"]) == (True, False)
            assert "appendonly is off" in store["detail"]
            server.client().config_set("appendonly", "yes")
            server.client().config_set("appendfsync", "always")
            assert client.readiness()["checks"]["store"]["durable"] is True
        assert daemon.stop() == 0


@contextmanager
def crowd(count: int, work: Callable[[int], None]) -> Iterator[None]:
    """Let so many do something at once, beside the block; nobody is left waiting at its end."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(20.0)
        assert not thread.is_alive()


def client_of(daemon: Daemon, number: int) -> None:
    assert daemon.http is not None
    with DaemonClient(daemon.http.url) as client:
        client.send(f"c{number}", "go", plan=diamond("wait", 0.01), message_id="m")


def refusal(daemon: Daemon) -> Any:
    assert daemon.http is not None
    if daemon.writer.available:
        return None
    url = f"{daemon.http.url}/api/v1/conversations/late/messages"
    return httpx2.post(url, json={"text": "go"}, trust_env=False, timeout=10.0)


def kinds(client: DaemonClient, conversation: str) -> list[str]:
    return [event["type"] for event in client.events(conversation)]
