"""Durations and sizes as people write them: `500ms`, `30s`, `5m`, `2h`, `1d`; `64KiB`, `1MiB`; or bare numbers."""

from __future__ import annotations

import re
from decimal import Decimal
from math import isfinite
from typing import Final

MAX_DURATION: Final = 315_360_000.0
"""Ten years, in seconds: more is a slip of the pen, and timers of the platform overflow not far beyond."""
MAX_SIZE: Final = 1 << 40
"""A tebibyte, in bytes."""

DURATION_FORM: Final = "seconds, or 500ms, 30s, 5m, 2h, 1d"
SIZE_FORM: Final = "bytes, or 64KiB, 1MiB, 2GiB"

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_WRITTEN: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_duration(value: object) -> float:
    """Return `value` in seconds, from 0 to `MAX_DURATION`. Raises `ValueError` naming the accepted form."""
    if isinstance(value, str):
        number, unit = _split(value, DURATION_FORM)
        if (unit or "s") not in _SECONDS:
            raise ValueError(DURATION_FORM)
        # Dividing keeps 100ms exactly 0.1, which multiplying by 0.001 does not for every number.
        seconds = number / 1_000 if unit == "ms" else number * _SECONDS[unit or "s"]
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_DURATION:
        seconds = float(value)
    else:
        raise ValueError(DURATION_FORM)
    if not isfinite(seconds) or not 0 <= seconds <= MAX_DURATION:
        raise ValueError(f"{DURATION_FORM}; from 0 to ten years")
    return seconds


def format_duration(seconds: float) -> str:
    """Return the shortest way to write `seconds` that `parse_duration` reads back exactly."""
    for unit in ("d", "h", "m"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count.is_integer():
            return f"{count:.0f}{unit}"
    if 0 < seconds < 1 and (seconds * 1_000).is_integer() and seconds * 1_000 / 1_000 == seconds:
        return f"{seconds * 1_000:.0f}ms"
    # repr gives the shortest digits that read back, but in scientific notation for the very small.
    return f"{seconds:.0f}s" if float(seconds).is_integer() else f"{Decimal(repr(float(seconds))):f}s"


def parse_size(value: object) -> int:
    """Return `value` in bytes, from 0 to `MAX_SIZE`. Raises `ValueError` naming the accepted form."""
    if isinstance(value, str):
        number, unit = _split(value, SIZE_FORM)
        if (unit or "B") not in _BYTES:
            raise ValueError(SIZE_FORM)
        size = number * _BYTES[unit or "B"]
        if not isfinite(size) or not size.is_integer():
            raise ValueError(f"{SIZE_FORM}; whole bytes")
        value = int(size)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SIZE:
        raise ValueError(SIZE_FORM)
    return value


def _split(text: str, form: str) -> tuple[float, str]:
    match = _WRITTEN.fullmatch(text) if len(text) <= 400 else None
    if match is None:
        raise ValueError(form)
    return float(match[1]), match[2]
