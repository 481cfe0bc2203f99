"""What every call obeys, whoever makes it, and a reload may change while calls run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bounds:
    """Shared by all ways of making a call; each looks when its call ends."""

    result_bytes: int
    """Largest result of one call, as JSON."""
