"""How long a failing side asked to be left alone: `Retry-After` as seconds or as an HTTP date."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Final

from supervision.error_text import read

MAX_RETRY_AFTER: Final = 86_400.0
"""A day, in seconds: as long as any timeout may be. More is taken for this, so that no due time can overflow."""


def retry_after(error: BaseException, now_s: float | None) -> float | None:
    """Return the seconds asked for, between 0 and a day; None when nothing sensible was said.

    Read from `error.retry_after`, else from the headers of `error.response`, else from `error.headers`.
    """
    for value in (
        read(error, "retry_after"),
        _header(read(read(error, "response"), "headers")),
        _header(read(error, "headers")),
    ):
        seconds = _seconds(value, now_s)
        if seconds is not None:
            return min(max(seconds, 0.0), MAX_RETRY_AFTER)
    return None


def _header(headers: Any) -> Any:
    try:
        return headers.get("Retry-After") or headers.get("retry-after")
    except BaseException:  # noqa: BLE001  # headers that cannot be read say nothing
        return None


def _seconds(value: Any, now_s: float | None) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _finite(value)
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        return _finite(float(value))
    except ValueError:
        return _until(value, now_s)


def _finite(value: float) -> float | None:
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if isfinite(seconds) else None


def _until(text: str, now_s: float | None) -> float | None:
    if now_s is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    # A date without a zone is UTC: HTTP dates always are.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
