"""What the writer counts since its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from persistence.contract import AppendRefused, Outcome


@dataclass(slots=True)
class Figures:
    """Counted by the writer's thread, but for the rows dropped at the door; seconds are those spent in commits."""

    batches: int = 0
    appends: int = 0
    largest_batch: int = 0
    seconds: float = 0.0
    refused: int = 0
    rows: int = 0
    rows_dropped: int = 0
    retries: int = 0

    def count(self, outcomes: Sequence[Outcome], rows: int, seconds: float) -> None:
        """Add a commit that was done."""
        self.batches += 1
        self.appends += len(outcomes)
        self.rows += rows
        self.largest_batch = max(self.largest_batch, len(outcomes))
        self.seconds += seconds
        self.refused += sum(isinstance(outcome, AppendRefused) for outcome in outcomes)

    def report(self) -> dict[str, Any]:
        """Return them under the names that people see."""
        batches = max(1, self.batches)
        return {
            "commits": self.batches,
            "appends": self.appends,
            "appends_per_commit": round(self.appends / batches, 2),
            "largest_commit": self.largest_batch,
            "commit_seconds": round(self.seconds, 6),
            "commit_ms": round(1000 * self.seconds / batches, 3),
            "refused": self.refused,
            "retries": self.retries,
            "rows": self.rows,
            "rows_dropped": self.rows_dropped,
        }
