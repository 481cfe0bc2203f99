"""A store that ends its own process, by SIGKILL, at the chosen occurrence of a boundary."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from chaos import ledger
from chaos.boundaries import COMMITS, Kill
from persistence.contract import Append, Committed, Loaded, Outcome, Row, Store

_TELLING: Final = 0.003
"""Seconds within which those who wait for a commit are told: `told` falls somewhere in them."""
_FIRST_GUESS: Final[dict[str, float]] = {"opening": 0.06, "migration": 0.15}
"""Seconds that a verb takes, for placing a kill inside it; commits are measured. A kill that comes too late falls on
the verb's return."""
_GUESS: Final = 0.002
_CLEANUP_AT: Final = 15
"""Commits of a life before a cleanup: there is something to delete, and work goes on beside it."""


class KillingStore:
    """Wraps `inner`; verbs that are no boundary are passed on as they are."""

    def __init__(self, inner: Store, kill: Kill | None) -> None:
        self._inner = inner
        self._kill = kill
        self._met = 0
        self._at = 0 if kill is None else kill.occurrence
        self._commits = 0
        self._unfinished: set[str] = set()
        self._seconds = _GUESS
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Pass on whatever is no boundary."""
        return getattr(self._inner, name)

    def open(self, owner: str) -> int:
        """Migrate and own: `opening` in a store that was used before, `migration` in a new one."""
        with self._around({"opening", "migration"}):
            return self._inner.open(owner)

    def count_recoveries(self) -> dict[str, int]:
        """Count: the first thing a recovery writes."""
        with self._around({"counting"}):
            return self._inner.count_recoveries()

    def unfinished(self) -> list[str]:
        """Remember which conversations are being recovered: a kill at a waking falls on one of them."""
        found = self._inner.unfinished()
        self._unfinished = set(found)
        if self._kill is not None and self._kill.boundary.group == "waking":
            self._at = max(1, min(self._at, len(self._unfinished)))
        return found

    def load(self, conversation_id: str, *, recent: int, whole: bool = False) -> Loaded:
        """Wake a conversation; a boundary when it is an unfinished one, or when there is none."""
        with self._around({"waking"} if conversation_id in self._unfinished or not self._unfinished else set()):
            return self._inner.load(conversation_id, recent=recent, whole=whole)

    def absent(self, conversation_ids: Sequence[str]) -> set[str]:
        """Look which conversations are new: a waking of each of them, so a boundary when there is no other."""
        with self._around(set() if self._unfinished else {"waking"}):
            return self._inner.absent(conversation_ids)

    def commit(self, batch: Sequence[Append], rows: Sequence[Row] = ()) -> list[Outcome]:
        """Commit; a boundary by what the batch holds."""
        kinds = {kind for append in batch for kind in kinds_of(append)}
        if batch:
            self._commits += 1
            kinds |= {"resuming"} if self._commits == 1 else set()
            if self._commits == _CLEANUP_AT and self._kill is not None and self._kill.boundary.group == "cleanup":
                threading.Thread(target=self._clean_up, daemon=True).start()
        began = time.perf_counter()
        with self._around(kinds):
            outcomes = self._inner.commit(batch, rows)
            for append, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Committed):
                    for row in append.results:
                        ledger.note("recorded", append.conversation_id, row.request_id, row.node, row.attempt)
        if batch:
            self._seconds = time.perf_counter() - began
        return outcomes

    def cleanup(self, now: int, *, keep_journal_ms: int, keep_logs_ms: int, keep_inbox_ms: int) -> dict[str, int]:
        """Delete what has expired."""
        with self._around({"cleanup"}):
            return self._inner.cleanup(
                now, keep_journal_ms=keep_journal_ms, keep_logs_ms=keep_logs_ms, keep_inbox_ms=keep_inbox_ms
            )

    def _clean_up(self) -> None:
        """Delete all logs: what the daemon does every few minutes. Journal and message ids are still needed."""
        now = time.time_ns() // 1_000_000
        self.cleanup(now, keep_journal_ms=2**60, keep_logs_ms=0, keep_inbox_ms=2**60)

    @contextmanager
    def _around(self, groups: set[str]) -> Iterator[None]:
        moment = self._moment(groups)
        if moment == "before":
            self._die()
        if moment == "inside":
            assert self._kill is not None
            longest = _FIRST_GUESS.get(self._kill.boundary.group, self._seconds)
            self._die_within(longest * self._kill.chance)
        yield
        if moment in ("inside", "after"):
            self._die()
        if moment == "told":
            assert self._kill is not None
            self._die_within(_TELLING * self._kill.chance)

    def _moment(self, groups: set[str]) -> str | None:
        """Count an occurrence; return the moment to die at, if this is the one."""
        if self._kill is None or self._kill.boundary.group not in groups:
            return None
        with self._lock:
            self._met += 1
            return self._kill.boundary.moment if self._met == self._at else None

    def _die_within(self, seconds: float) -> None:
        def later() -> None:
            time.sleep(seconds)
            self._die()

        threading.Thread(target=later, daemon=True).start()

    def _die(self) -> None:
        assert self._kill is not None
        ledger.note("killed", key=str(self._kill.boundary))
        os.kill(os.getpid(), signal.SIGKILL)


def kinds_of(append: Append) -> Iterator[str]:
    """Yield the kinds of a step, of `boundaries.COMMITS`."""
    held = {
        "accepted": bool(append.inbox),
        "drafted": b'"plan.drafted"' in append.entry,
        "started": b'"node.started"' in append.entry,
        "result": bool(append.results),
        "reply": bool(append.replied),
        "snapshot": append.snapshot is not None and not append.replied,
    }
    yield from (kind for kind in COMMITS if held[kind])
