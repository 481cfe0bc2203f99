"""Sees to it that nothing of a worker process outlives it or the daemon: its process group, and what left the group.

The worker forks at its start. The first process stays behind as the guard and runs no agent's code, so that it always
answers; the second one is the worker. When the worker ends, however it ends, or when the daemon closes the lifeline
(which the kernel does for a daemon that is killed), the guard kills all that is left and ends as the worker did.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LINUX: Final = sys.platform == "linux"
_SWEEP: Final = 5.0
"""Seconds spent at most on killing what keeps forking."""


def fork_guarded(lifeline: int, private: tuple[int, ...]) -> None:
    """Return in the new process, the worker; the old one becomes its guard and never returns.

    `lifeline` is a descriptor that reads end-of-file when the worker is to be killed. `private` are descriptors that
    only the worker may hold, for whoever reads from it waits for the last holder.
    """
    if _LINUX:  # orphans of the worker become children of the guard, even those that began a session of their own
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        if _LINUX:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before the line above took effect
            os._exit(1)
        return
    with contextlib.suppress(OSError):  # whichever of the two comes first
        os.setpgid(worker, worker)
    for descriptor in private:
        os.close(descriptor)
    _guard(worker, lifeline)


def _guard(worker: int, lifeline: int) -> NoReturn:
    threading.Thread(target=_hold, args=(worker, lifeline), daemon=True).start()
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_pid == worker:
            break
        os.waitpid(ended.si_pid, 0)  # an orphan of the worker
    # Not reaped yet: its number cannot belong to anybody else while its group is killed.
    _kill_group(worker)
    _pid, status = os.waitpid(worker, 0)
    _kill_orphans()
    _end_like(os.waitstatus_to_exitcode(status))


def _hold(worker: int, lifeline: int) -> None:
    while os.read(lifeline, 64):
        continue
    _kill_group(worker)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _kill_orphans() -> None:
    deadline = time.monotonic() + _SWEEP
    while time.monotonic() < deadline:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.002)


def _children() -> list[int]:
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as listed:  # noqa: PTH123  # no pathlib in a process this small
            return [int(child) for child in listed.read().split()]
    except OSError:  # not Linux, or a kernel without it: the group is all that is known
        return []


def _end_like(code: int) -> NoReturn:
    if code < 0:
        with contextlib.suppress(OSError, ValueError):  # SIGKILL cannot be set, and needs not
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 1)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # a C library without prctl: the lifeline still holds
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
