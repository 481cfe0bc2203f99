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
from typing import Any

from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError


class Wire:
    """Calls scripts, from any thread; every thread that calls at the same time has a connection of its own."""

    def __init__(self, pool: ConnectionPool) -> None:
        """`pool` makes the connections, and ends them when it is disconnected."""
        self._pool = pool
        self._idle: deque[Any] = deque()
        self._digests: dict[str, str] = {}

    def call(self, script: str, key: str, values: Sequence[Any]) -> Any:
        """Return the script's answer. Raises what the driver raises.

        A connection that broke is made anew once, and the script sent again, so it may be carried out twice.
        """
        digest = self._digests.get(script)
        if digest is None:
            digest = self._digests[script] = hashlib.sha1(script.encode()).hexdigest()  # noqa: S324  # the server's name for it
        try:
            connection = self._idle.pop()  # the one used last: the others may have been closed for their idleness
        except IndexError:
            connection = self._pool.get_connection()
        try:
            packed = connection.pack_command("EVALSHA", digest, 1, key, *values)
            try:
                return _ask(connection, packed)
            except NoScriptError:  # the first time, and after the server was restarted
                _ask(connection, connection.pack_command("SCRIPT LOAD", script))
                return _ask(connection, packed)
        finally:
            self._idle.append(connection)


def _ask(connection: Any, packed: Any) -> Any:
    try:
        return _exchange(connection, packed)
    except RedisConnectionError:
        connection.disconnect()
        return _exchange(connection, packed)


def _exchange(connection: Any, packed: Any) -> Any:
    connection.send_packed_command(packed, check_health=False)  # which connects first when it has to
    return connection.read_response()
