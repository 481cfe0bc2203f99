"""The event loop's own threads: they end whenever they are told to."""

from __future__ import annotations

import threading

from actors_support import DEADLINE

from actors.blocking_pool import BlockingPool
from actors.event_loop import EventLoop


class ClearedLate(threading.Event):
    """Clears itself only once the loop has been told to end, and has ended."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop
        self.about_to_clear = threading.Event()

    def clear(self):
        self.about_to_clear.set()
        self.loop._thread.join(DEADLINE)
        super().clear()


def test_the_watchdog_ends_when_it_was_told_to_between_two_looks():
    """It cleared what it was told with, and waited for ever for a loop that had gone."""
    told = []
    pool = BlockingPool(1)
    loop = EventLoop(
        blocked=lambda *what: told.append(what), escaped=lambda *_: None, blocked_after=0.01, to_thread=pool
    )
    loop._beaten = cleared = ClearedLate(loop)
    loop.start()
    assert cleared.about_to_clear.wait(DEADLINE)
    assert loop.stop(DEADLINE) == []
    loop._watchdog.join(DEADLINE)
    assert not loop._watchdog.is_alive()
    assert all("stood still" in place for _, _, place in told), "no agent was to blame"
    assert pool.stop(DEADLINE) == []
