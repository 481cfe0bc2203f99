"""A new life of a supervisor waits until its predecessor's steps are decided."""

from __future__ import annotations

import threading

from store_samples import step

from persistence.contract import StoreUnavailable
from persistence.memory_store import MemoryStore
from persistence.writer import Writer


class Away(MemoryStore):
    """A store that is away until it is let back."""

    def __init__(self) -> None:
        super().__init__()
        self.back = threading.Event()

    def commit(self, batch, rows=()):
        if not self.back.is_set():
            raise StoreUnavailable("away")
        return super().commit(batch, rows)


def test_a_conversation_with_nothing_waiting_is_decided_at_once():
    """The ordinary case costs one look."""
    called: list[str] = []
    Writer(MemoryStore()).when_decided("c", lambda: called.append("now"))
    assert called == ["now"]


def test_who_waits_is_called_after_the_last_step_was_told():
    """Also when the store was away meanwhile; other conversations are not waited for."""
    store = Away()
    store.open("test")
    writer = Writer(store, retry=(0.01, 0.02))
    writer.start()
    told: list[object] = []
    decided = threading.Event()
    try:
        writer.submit(step("c", 1), told.append)
        writer.submit(step("c", 2), told.append)
        writer.when_decided("c", decided.set)
        other = threading.Event()
        writer.when_decided("other", other.set)
        assert other.is_set()
        assert not decided.is_set()
        store.back.set()
        assert decided.wait(10)
        assert len(told) == 2
    finally:
        store.back.set()
        assert writer.stop(10)
