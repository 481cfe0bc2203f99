"""Writes rows apart from the steps they were to ride along with, when one among them all cannot be stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from persistence.contract import OwnershipLost, Row, StoreUnavailable

_FAILURES: Final = 50
"""Commits that may fail in the search for rows that cannot be stored: one among all of a commit takes eleven."""


class Written(NamedTuple):
    """What became of the rows."""

    dropped: set[int]
    """Those that are not stored, by `id`."""
    failure: Exception | None
    """Why some are not, but for a lost ownership."""
    lost: str | None
    """Why the ownership is lost, if it is."""


def write_apart(commit: Callable[[Sequence[Row]], object], rows: Sequence[Row]) -> Written:
    """Write rows by one or more commits; those that cannot be stored are dropped, and no others with them."""
    parts, failures = [rows], 0
    dropped: set[int] = set()
    failure: Exception | None = None
    lost: str | None = None
    while parts:
        some = parts.pop()
        try:
            commit(some)
        except (OwnershipLost, StoreUnavailable) as error:
            if isinstance(error, OwnershipLost):
                lost = str(error)
            else:
                failure = error
            dropped.update(id(row) for part in (some, *parts) for row in part)
            break
        except Exception as error:  # noqa: BLE001  # one row that cannot be stored must not take others with it
            failure, middle = error, len(some) // 2
            failures += 1
            if failures == _FAILURES:  # it is not one of them, but something about them all
                dropped.update(id(row) for part in (some, *parts) for row in part)
                break
            if middle:
                parts += [some[middle:], some[:middle]]
            else:
                dropped.update(map(id, some))
    return Written(dropped, failure, lost)
