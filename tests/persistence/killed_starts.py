"""Opens a store in a process that is killed at one point of its start, and then once more: what migration tests share.

The process is forked, because the start of a process costs more than a migration.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from yoyo.backends.base import DatabaseBackend

Tick = Callable[[], None]


def survives(make: Callable[[], Any], watch: Callable[[Tick], None], point: int) -> tuple[bool, str]:
    """Whether a start was killed at its `point`-th tick, and what the next one said; nothing: that all is well.

    `watch(tick)` sees to it that `tick` is called before every statement; commits of migrations count already, before
    and after.
    """
    child = os.fork()
    if child == 0:
        tick = _deadly(point)
        _watch_commits(tick)
        watch(tick)
        make().open("killed")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    store = make()
    try:
        store.open("next")
        applied = all(done for _, done in store.migration_status())
        store.close()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what the program reports
        return killed, f"{type(error).__name__}: {error}"
    return killed, "" if applied else "not applied"


def _deadly(point: int) -> Tick:
    left = point

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return tick


def _watch_commits(tick: Tick) -> None:
    commit = DatabaseBackend.commit

    def committing(backend: Any) -> None:
        tick()
        commit(backend)
        tick()

    DatabaseBackend.commit = committing
