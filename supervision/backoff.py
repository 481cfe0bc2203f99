"""How long to wait before a restart: exponential growth to a ceiling, with jitter that comes in as data."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, isnan


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between restarts, as in Akka's `restartWithBackoff`.

    Raises `ValueError` naming the field when the values make no sense.
    """

    min_backoff: float = 1.0
    """Delay before the first restart."""
    max_backoff: float = 30.0
    """Ceiling of the delay, jitter not included."""
    factor: float = 2.0
    """Growth from one restart to the next."""
    random_factor: float = 0.2
    """Share of the delay that jitter may add, so that many failures do not come back in step."""
    reset_backoff_after: float | None = None
    """Seconds without a failure after which counting starts anew; infinity means never, None see `reset_after`."""

    def __post_init__(self) -> None:
        for name in ("min_backoff", "max_backoff", "factor", "random_factor"):
            if not isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, not {getattr(self, name)}")
        if self.min_backoff < 0:
            raise ValueError(f"min_backoff must be 0 s or more, not {self.min_backoff}")
        if self.max_backoff < self.min_backoff:
            raise ValueError(f"max_backoff ({self.max_backoff}) must not be below min_backoff ({self.min_backoff})")
        if self.factor < 1:
            raise ValueError(f"factor must be 1 or more, not {self.factor}: delays never shrink")
        if not 0 <= self.random_factor <= 1:
            raise ValueError(f"random_factor must be between 0 and 1, not {self.random_factor}")
        after = self.reset_backoff_after
        if after is not None and (isnan(after) or after < 0):
            raise ValueError(f"reset_backoff_after must be 0 s or more, not {after}")

    @property
    def reset_after(self) -> float:
        """Seconds of quiet that count as recovered; Akka's default is the mean of minimum and maximum."""
        if self.reset_backoff_after is None:
            return (self.min_backoff + self.max_backoff) / 2
        return self.reset_backoff_after

    def base(self, k: int) -> float:
        """Return the delay before restart number `k` (from 0) without jitter."""
        if k < 0:
            raise ValueError(f"k counts restarts from 0, not {k}")
        if self.min_backoff == 0:
            return 0.0
        try:
            return min(self.max_backoff, self.min_backoff * self.factor**k)
        except OverflowError:
            return self.max_backoff

    def delay(self, k: int, jitter: float) -> float:
        """Return the delay in seconds before restart number `k` (from 0); `jitter` is a number in [0, 1)."""
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter must be in [0, 1), not {jitter}")
        return self.base(k) * (1 + self.random_factor * jitter)
