"""One script call on the wire: packed, sent and its answer read on a connection that is kept at hand, and no more.

The driver's own way to call a script passes a dozen layers (a connection taken from its pool under a lock and tried for
readability, a retrier, hooks, response callbacks, events for monitoring). For a step they cost as much processor time as
packing, sending and reading together. Connections are still the driver's: how they are made, authenticated, encrypted,
timed out and parsed stays its business.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any

from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError


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
        """`pool` makes the connections, and ends them when it is disconnected."""
        self._pool = pool
        self._idle: deque[Any] = deque()

    def call(self, script: str, keys: Sequence[str], values: Sequence[Any]) -> Any:
        """Return the script's answer. Raises what the driver raises.

        When the connection breaks all is sent once more over a new one: so it may be carried out twice.
        """
        try:
            connection = self._idle.pop()  # the one used last: the others may have been closed for their idleness
        except IndexError:
            connection = self._pool.get_connection()
        try:
            return evaluate(connection, script, keys, values)
        except RedisConnectionError:
            connection.disconnect()
            return evaluate(connection, script, keys, values)
        finally:
            self._idle.append(connection)


def _exchange(connection: Any, packed: Any) -> Any:
    connection.send_packed_command(packed, check_health=False)  # which connects first when it has to
    return connection.read_response()


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode()).hexdigest()  # noqa: S324  # it is what the server calls a script
