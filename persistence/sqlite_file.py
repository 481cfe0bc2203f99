"""The SQLite file itself: the lock beside it, who may read it, whether it is still the same one, its size.

The lock keeps a second daemon out. The kernel frees it when the owner dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from persistence.contract import StoreOwned

_HELD: set[int] = set()


def lock(path: Path) -> int:
    """Return the held lock; freed by the kernel when this process ends."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StoreOwned(f"{path} is owned by another live daemon") from None
    except BaseException:
        os.close(handle)
        raise
    _HELD.add(handle)
    return handle


def unlock(handle: int) -> None:
    """Give the lock back."""
    _HELD.discard(handle)
    os.close(handle)


def _let_go() -> None:
    """Leave the lock to this process alone: a copy of it that an agent forks would hold it as long as it lives."""
    for handle in _HELD:
        os.close(handle)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


def make_private(path: Path) -> None:
    """Make the file if there is none; let nobody but its owner read it and those beside it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for suffix in ("", "-wal", "-shm"):
        one = Path(f"{path}{suffix}")
        if one.exists():
            one.chmod(0o600)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another that has its name; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def size(path: Path, suffix: str) -> int:
    """Return the bytes of one of the store's files, 0 when it is not there."""
    try:
        return Path(f"{path}{suffix}").stat().st_size
    except OSError:
        return 0
