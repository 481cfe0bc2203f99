"""Real servers for real daemons: what a daemon is told to find its store, and how the store's server is killed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import postgres_server
import psutil
from test_redis_store import ALWAYS
from test_redis_store import Server as RedisServer


@dataclass(frozen=True)
class StoreWorld:
    """A store of one kind, with a server of its own where it has one."""

    kind: str
    settings: dict[str, str]
    """For `DaemonProcess`."""
    kill_server: Callable[[], None] | None = None
    start_server: Callable[[], None] | None = None
    server_pids: Callable[[], list[int]] = list
    """The server's processes, to be frozen."""


@contextlib.contextmanager
def store_world(kind: str) -> Iterator[StoreWorld]:
    """Make one; its server is ended by its pid."""
    lease = {"lease_ttl": "2s", "state_storage": kind}
    if kind == "postgres":
        with postgres_server.running() as server:
            settings = {**lease, "postgres_dsn": server.database()}
            yield StoreWorld(kind, settings, server.kill, server.start, lambda: _family(server._server.get_pid()))
    elif kind == "redis":
        with tempfile.TemporaryDirectory(prefix="redis") as folder:
            redis = RedisServer(Path(folder), *ALWAYS)
            redis.start()
            try:
                # A user of the store alone: the Redis door has its own tests.
                settings = {**lease, "redis_url": redis.url}
                yield StoreWorld(kind, settings, redis.kill, redis.start, lambda: _family(_pid(redis)))
            finally:
                redis.kill()
    else:
        yield StoreWorld(kind, lease)


def _family(pid: int) -> list[int]:
    parent = psutil.Process(pid)
    return [pid, *(child.pid for child in parent.children(recursive=True))]


def _pid(redis: RedisServer) -> int:
    assert redis.process is not None
    return redis.process.pid
