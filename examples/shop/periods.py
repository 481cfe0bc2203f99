"""From words such as "last month" or "in September" to the first and last day meant."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

_MONTHS: Final = (
    "january february march april may june july august september october november december".split()  # reads as a list
)
_IN_MONTH: Final = re.compile(rf"\b(?:in|of|during|for)\s+({'|'.join(_MONTHS)})(?:\s+(20\d\d))?\b")
_LAST_DAYS: Final = re.compile(r"\b(?:last|past)\s+(\d{1,3})\s+(day|week)s?\b")
_USUAL: Final = 30
"""Days that are meant when nothing is said."""


def period_of(words: str, newest: str) -> tuple[date, date]:
    """Return first and last day, both included, counted from the day `newest` (ISO), so that answers do not age."""
    today, said = date.fromisoformat(newest), words.lower()
    if (month := _IN_MONTH.search(said)) is not None:
        number = 1 + _MONTHS.index(month.group(1))
        year = int(month.group(2)) if month.group(2) else today.year - (number > today.month)
        return date(year, number, 1), _end_of_month(date(year, number, 1))
    if (some := _LAST_DAYS.search(said)) is not None:
        return _days(int(some.group(1)) * (7 if some.group(2) == "week" else 1), today)
    if "last month" in said:
        last = today.replace(day=1) - timedelta(days=1)
        return last.replace(day=1), last
    if "this month" in said:
        return today.replace(day=1), today
    if "last week" in said or "past week" in said:
        return _days(7, today)
    if "last year" in said:
        return date(today.year - 1, 1, 1), date(today.year - 1, 12, 31)
    if "this year" in said:
        return today.replace(month=1, day=1), today
    if "yesterday" in said:
        return today - timedelta(days=1), today - timedelta(days=1)
    return (today, today) if re.search(r"\btoday\b", said) else _days(_USUAL, today)


def _days(count: int, today: date) -> tuple[date, date]:
    return today - timedelta(days=max(count, 1) - 1), today


def _end_of_month(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
