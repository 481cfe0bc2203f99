"""The measuring stick: one durable request written by hand in asyncio, with group commit and nothing else.

A request is accepted, three agents run, one that needs all three, the reply: every step is one appended row, durable
before the next step begins, a kilobyte each. No actors, no supervision, no contracts, no logs, no recovery.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks._lab import KILOBYTE, Scratch

Row = tuple[str, int, bytes]
"""Conversation, sequence number, body."""


class Disk(Protocol):
    """Where a batch of rows becomes durable."""

    def commit(self, rows: list[Row]) -> None:
        """Return when they are."""

    def close(self) -> None:
        """End."""


class SqliteDisk:
    """A write-ahead log, synchronised at every commit."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE steps (conversation TEXT, seq INTEGER, body BLOB, PRIMARY KEY (conversation, seq))"
        )

    def commit(self, rows: list[Row]) -> None:
        """One transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO steps VALUES (?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class PostgresDisk:
    """One multi-row statement per commit."""

    def __init__(self, dsn: str) -> None:
        import psycopg  # noqa: PLC0415  # a driver is loaded only where it is used

        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute(
            "CREATE TABLE steps (conversation TEXT, seq BIGINT, body BYTEA, PRIMARY KEY (conversation, seq))"
        )

    def commit(self, rows: list[Row]) -> None:
        """One statement is one transaction."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        self._connection.execute(
            "INSERT INTO steps SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bytea[])", columns, prepare=True
        )

    def close(self) -> None:
        """Drop the table too: the next run begins anew."""
        self._connection.execute("DROP TABLE steps")
        self._connection.close()


class RedisDisk:
    """One MULTI/EXEC per commit, a hash per conversation; as durable as `appendfsync always` is."""

    def __init__(self, url: str) -> None:
        import redis  # noqa: PLC0415  # as above

        self._client = redis.Redis.from_url(url, db=1)  # the daemon's keys are in the first

    def commit(self, rows: list[Row]) -> None:
        """One round trip."""
        pipe = self._client.pipeline(transaction=True)
        for conversation, seq, body in rows:
            pipe.hset(conversation, str(seq), body)
        pipe.execute()

    def close(self) -> None:
        """Forget everything: the next run begins anew."""
        self._client.flushdb()
        self._client.close()


def disk(store: Scratch) -> Disk:
    """Return the disk that belongs to a scratch store."""
    if store.dsn is not None:
        return PostgresDisk(store.dsn)
    if store.redis_url is not None:
        return RedisDisk(store.redis_url)
    return SqliteDisk(store.folder / f"stick-{time.monotonic_ns()}.db")


@dataclass
class Figures:
    """What a run took."""

    seconds: float = 0.0
    processor: float = 0.0
    commits: int = 0
    latencies: list[float] = field(default_factory=list)


class GroupCommit:
    """A thread that commits together whatever gathered while its last commit ran."""

    def __init__(self, store: Disk, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._loop = store, loop
        self._waiting: deque[tuple[Row, asyncio.Future[None]]] = deque()
        self._wake = threading.Event()
        self._over = False
        self.commits = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    async def append(self, row: Row) -> None:
        """Return when the row is durable."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((row, done))
        self._wake.set()
        await done

    def stop(self) -> None:
        """End when nothing waits."""
        self._over = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
                self._store.commit([row for row, _ in batch])
                self.commits += 1
                self._loop.call_soon_threadsafe(_tell, [done for _, done in batch])
            if self._over:
                return


def _tell(waiting: list[asyncio.Future[None]]) -> None:
    for done in waiting:
        done.set_result(None)


async def _leaf(wait: float) -> dict[str, str]:
    if wait:
        await asyncio.sleep(wait)
    return {"text": KILOBYTE}


async def _join(wait: float, a: dict[str, str], b: dict[str, str], c: dict[str, str]) -> dict[str, str]:
    if wait:
        await asyncio.sleep(wait)
    return {"text": a["text"][:300] + b["text"][:300] + c["text"][:400]}


async def _request(conversation: str, append: Callable[[Row], Any], wait: float) -> None:
    def row(seq: int, **fields: Any) -> Row:
        return conversation, seq, json.dumps(fields).encode()

    await append(row(1, type="accepted", text="hello", plan=["a", "b", "c", "d"]))

    async def node(seq: int) -> dict[str, str]:
        found = await _leaf(wait)
        await append(row(seq, type="done", node=seq, result=found))
        return found

    a, b, c = await asyncio.gather(node(2), node(3), node(4))
    joined = await _join(wait, a, b, c)
    await append(row(5, type="done", node=5, result=joined))
    await append(row(6, type="reply", text=joined["text"]))


def run(store: Disk, total: int, at_once: int, wait: float = 0.0) -> Figures:
    """Run so many requests, so many at once, each agent waiting for `wait` seconds."""
    figures = Figures()

    async def everything() -> None:
        commit = GroupCommit(store, asyncio.get_running_loop())
        numbers = iter(range(total))

        async def caller() -> None:
            for number in numbers:
                began = time.perf_counter()
                await _request(f"c{number}", commit.append, wait)
                figures.latencies.append(time.perf_counter() - began)

        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        figures.seconds, figures.processor = time.perf_counter() - began, time.process_time() - used
        commit.stop()
        figures.commits = commit.commits

    asyncio.run(everything())
    return figures


def talk(store: Disk, turns: int, size: int) -> list[float]:
    """Return the seconds of each turn of one conversation: a question of `size` characters, a result, a reply."""
    took: list[float] = []
    for turn in range(turns):
        began = time.perf_counter()
        text = f"{turn:05} ".ljust(size, "?")
        steps = (
            {"type": "accepted", "text": text},
            {"type": "done", "result": text[::-1]},
            {"type": "reply", "text": text},
        )
        for number, step in enumerate(steps):
            store.commit([("long", turn * len(steps) + number, json.dumps(step).encode())])
        took.append(time.perf_counter() - began)
    return took
