"""How many connections the HTTP door keeps: fewer than the files the process may open, for others need some too.

At the limit of open files the store cannot open its file, no worker can be started, and asyncio, which goes on taking
what it cannot have, fails once for each connection it was told may wait.
"""

from __future__ import annotations

import resource
import socket
import time
from typing import Final

import uvicorn
from uvicorn.server import ServerState

from gateway.ports import Log, silent

BACKLOG: Final = 2048
"""Connections that wait to be taken, at most; the system may allow fewer."""
AT_ONCE: Final = 16
"""Connections taken in one turn of the loop: so many may go beyond the limit before the first of them is let go."""
RESERVED: Final = 1024
"""Open files left to everything else; where there are few in all, half of them."""
_TELL_EVERY: Final = 10.0
"""Seconds between two lines about connections that were refused."""


def affordable() -> int:
    """Return how many connections the process can afford with its limit of open files."""
    files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        files = 1 << 20
    return int(max(1, files - min(RESERVED, files // 2)))


class Connections(ServerState):
    """Every open connection. Only on the loop's thread, but for what is counted."""

    def __init__(self, most: int, log: Log = silent) -> None:
        super().__init__()
        self.most = most
        self.refused = 0
        """Since the start."""
        self._log = log
        self._told_at = float("-inf")
        self._told = 0

    @property
    def too_many(self) -> bool:
        """Whether the newest one is one too many."""
        return len(self.connections) > self.most

    def refuse(self) -> None:
        """Count one that was refused; say so now and then."""
        self.refused += 1
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY:
            self._log("connections_refused", limit=self.most, refused=self.refused - self._told)
            self._told_at, self._told = now, self.refused


class Server(uvicorn.Server):
    """Takes connections in small helpings, however many wait."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self.server_state = self.connections = connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        # asyncio takes one number for both: how many may wait, and how many it takes in one turn.
        for listener in sockets or ():
            listener.listen(BACKLOG)
