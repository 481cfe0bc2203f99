"""Keeps a copy of the daemon that an agent forks (`multiprocessing` does) from holding what the next daemon needs.

A fork has every descriptor. While one lives, the address cannot be bound again, a client of a killed daemon waits on a
connection that does not end, and a server takes the killed daemon's connection for alive. A store sees to its own lock.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

_signals: Collection[signal.Signals] = ()
_active = False
_registered = False


@contextmanager
def copies_let_go(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Within this context copies lose our connections, and `signals`, which we handle, end them as they end others."""
    global _active, _registered, _signals  # noqa: PLW0603  # such a hook is the process's, and cannot be taken back
    if not _registered:
        os.register_at_fork(after_in_child=_let_go)
        _registered = True
    _active, _signals = True, tuple(signals)
    try:
        yield
    finally:
        _active = False


def _let_go() -> None:
    if not _active:
        return
    for number in _signals:
        signal.signal(number, signal.SIG_DFL)  # our handler is for a thread that a copy has not
    nothing = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208  # the copy may run little: no more than needed
        with suppress(OSError, ValueError):  # the descriptor of this very list
            if _leads_out(int(name)):
                # Not closed: whoever has an object for it would act on whatever gets its number next.
                os.dup2(nothing, int(name), inheritable=False)
    os.close(nothing)


def _leads_out(descriptor: int) -> bool:
    """Return whether it is a socket that others can reach, or that reaches others; pairs are multiprocessing's own."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        if found.family != socket.AF_UNIX:
            return True
        with suppress(OSError):
            return bool(found.getsockname() or found.getpeername())
        return False
    finally:
        found.detach()
