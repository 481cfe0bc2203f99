"""Tells systemd how the daemon is: ready, reloading, stopping, alive (sd_notify(3)); without systemd it tells nobody.

The protocol is one datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names: too little for a library.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class ServiceManager:
    """Never waits and never raises: a service manager that does not listen must not hold the daemon up."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        given = os.environ if environment is None else environment
        path = given.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self.ping_every = _ping_every(given)
        """Seconds between signs of life, half of what systemd waits; None when it waits for none."""

    def ready(self, status: str) -> None:
        """The doors are open."""
        self._tell(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """A changed configuration is being looked at; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1_000}\nSTATUS=reloading")

    def stopping(self, status: str) -> None:
        """New work is refused from now on."""
        self._tell(f"STOPPING=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Told now and then; when it stops, systemd starts the daemon again."""
        self._tell(f"WATCHDOG=1\nSTATUS={status}")

    def _tell(self, what: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
            way.setblocking(False)
            way.sendto(what.encode(), self._address)


def _ping_every(given: Mapping[str, str]) -> float | None:
    if given.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is another process that is watched
    try:
        microseconds = int(given.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 2_000_000 if microseconds > 0 else None
