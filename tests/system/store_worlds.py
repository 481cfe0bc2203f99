"""Real servers for real daemons: what a daemon is told to find its store, and how the store's server is killed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import postgres_server
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


@contextlib.contextmanager
def store_world(kind: str) -> Iterator[StoreWorld]:
    """Make one; its server is ended by its pid."""
    lease = {"lease_ttl": "2s", "state_storage": kind}
    if kind == "postgres":
        with postgres_server.running() as server:
            settings = {**lease, "postgres_dsn": server.database()}
            yield StoreWorld(kind, settings, server.kill, server.start)
    elif kind == "redis":
        with tempfile.TemporaryDirectory(prefix="redis") as folder:
            redis = RedisServer(Path(folder), *ALWAYS)
            redis.start()
            try:
                # A user of the store alone: the Redis door has its own tests.
                yield StoreWorld(kind, {**lease, "redis_url": redis.url}, redis.kill, redis.start)
            finally:
                redis.kill()
    else:
        yield StoreWorld(kind, lease)
