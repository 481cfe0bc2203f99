"""What a daemon does now and then for its store: deletes what has expired, and notes that it is alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from actors.system import ActorSystem
from config import Settings
from persistence.contract import Store
from persistence.reader import Reader
from persistence.witness import Witness

BEAT_EVERY: Final = 5.0
"""Seconds: what was acknowledged longer ago than this is missed when an older copy of the store is put in its place."""
CLEANUP_EVERY: Final = 300.0
"""Seconds between deletions of expired rows."""
_FOREVER_MS: Final = 2**60
_MANY_ROWS: Final = 5_000
"""Rows of one table that a store deletes at once, at most."""


class Housekeeping:
    """Everything is done on the reader's threads: nobody else waits for it."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        system: ActorSystem,
        witness: Witness,
        *,
        settings: Callable[[], Settings],
        log: Callable[..., None],
    ) -> None:
        """`settings` gives those in force, which a reload may change."""
        self._store = store
        self._reader = reader
        self._system = system
        self._witness = witness
        self._settings = settings
        self._log = log

    def start(self) -> None:
        """Begin; it ends with the actor system's timers."""
        self._system.timers.schedule(CLEANUP_EVERY, self._clean_up)
        self._system.timers.schedule(BEAT_EVERY, self._beat_on)

    def beat(self) -> None:
        """Count one beat in the store, and note it beside. Raises `StoreError`."""
        mark = self._store.beat()
        if mark is not None:
            self._witness.note(mark)

    def _clean_up(self) -> None:
        """Delete what has expired, off every thread that others wait for; then again after a while."""
        settings = self._settings()
        journal = settings.journal_retention
        keep = {
            "keep_journal_ms": _FOREVER_MS if journal is None else round(journal * 1000),
            "keep_logs_ms": round(settings.log_retention * 1000),
            "keep_inbox_ms": round(settings.inbox_retention * 1000),
        }

        def cleaned(gone: Any) -> None:
            if isinstance(gone, BaseException):
                failed = {"error_type": type(gone).__name__, "error_message": str(gone)}
                self._log("error", where="cleanup", level="warning", **failed)
            elif any(gone.values()):
                rows = {table: count for table, count in gone.items() if count}
                self._log("cleaned_up", store=self._store.kind, rows=rows)
            # A table that had more than one helping to delete is taken up again at once.
            soon = not isinstance(gone, BaseException) and max(gone.values()) >= _MANY_ROWS
            if not self._system.stopping:
                self._system.timers.schedule(1.0 if soon else CLEANUP_EVERY, self._clean_up)

        now = self._system.clock.now_ms()
        self._reader.submit(lambda: self._store.cleanup(now, **keep), done=cleaned)

    def _beat_on(self) -> None:
        """Beat now and then, off every thread that others wait for; a store that is away is beaten later."""

        def beaten(_done: Any) -> None:
            if not self._system.stopping:
                self._system.timers.schedule(BEAT_EVERY, self._beat_on)

        self._reader.submit(self.beat, done=beaten)
