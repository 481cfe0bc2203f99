"""One script call on the wire: packed, sent and its answer read on a connection that is kept at hand, and no more.

The driver's own way to call a script passes a dozen layers (a connection taken from its pool under a lock and tried for
readability, a retrier, hooks, response callbacks, events for monitoring). For a step they cost as much processor time
as packing, sending and reading together. Connections are still the driver's: how they are made, authenticated,
encrypted, timed out and parsed stays its business.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any

from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError


def evaluate(connection: Any, script: str, keys: Sequence[str], values: Sequence[Any]) -> Any:
    """Return a script's answer over one of the driver's connections. Raises what the driver raises."""
    packed = connection.pack_command("EVALSHA", _digest(script), len(keys), *keys, *values)
    try:
        return _exchange(connection, packed)
    except NoScriptError:  # the first time, and after the server was restarted
        _exchange(connection, connection.pack_command("SCRIPT LOAD", script))
        return _exchange(connection, packed)


class Wire:
    """Calls scripts, from any thread; those that call at the same time have a connection each."""

    def __init__(self, pool: ConnectionPool) -> None:
        """`pool` makes the connections. It is for this alone: they are kept, however few it may make."""
        self._pool = pool
        self._idle: deque[tuple[int, Any]] = deque()
        self._age = 0

    def call(self, script: str, keys: Sequence[str], values: Sequence[Any]) -> Any:
        """Return the script's answer. Raises what the driver raises.

        When the connection breaks all is sent once more over a new one: a script sees to it that this does no harm.
        """
        now = self._age
        try:
            made, connection = self._idle.pop()  # the one used last: the others may have been closed for their idleness
        except IndexError:
            made, connection = now, self._pool.get_connection()
        try:
            if made != now:
                connection.disconnect()
            return evaluate(connection, script, keys, values)
        except RedisConnectionError:
            connection.disconnect()
            return evaluate(connection, script, keys, values)
        finally:
            self._idle.append((now, connection))

    def renew(self) -> None:
        """Let every connection be made anew before its next use."""
        self._age += 1

    def close(self) -> None:
        """End all connections."""
        self._pool.disconnect()


def set_up(connection: Any) -> None:
    """Prepare a new connection for large batches; for the driver's `redis_connect_func`.

    The driver's sockets never block, so what does not fit into the kernel's buffer is sent piece by piece, and between
    any two this thread has to win the interpreter back from all others: at 256 callers that was half of a commit's
    time. On a socket that blocks the kernel takes everything in one go. How long to wait is still ours: for readiness
    before, and the kernel's own limit while it sends.
    """
    raw = connection._sock  # noqa: SLF001  # the driver has no other way to reach it
    if connection.socket_timeout and not isinstance(raw, ssl.SSLSocket):
        seconds = float(connection.socket_timeout)
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        os.set_blocking(raw.fileno(), True)
    connection.on_connect()


def is_replica(error: Exception) -> bool:
    """Return whether the server said, in a script or by itself, that it is none that takes writes.

    After a failover its old connections stay with the server that they were made to; a new one finds the other, be it
    through a name, a proxy or a balancer.
    """
    return isinstance(error, ResponseError) and any(word in str(error) for word in _OF_A_REPLICA)


_OF_A_REPLICA = ("READONLY", "read only replica", "MASTERDOWN", "Link with MASTER is down")
"""As the server says it, and as the driver does, which takes its first word away."""


def _exchange(connection: Any, packed: Any) -> Any:
    connection.send_packed_command(packed, check_health=False)  # which connects first when it has to
    return connection.read_response()


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode()).hexdigest()  # noqa: S324  # it is what the server calls a script
