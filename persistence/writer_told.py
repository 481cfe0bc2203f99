"""Tells those who wait for a commit what became of it; the trouble of one of them reaches no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from persistence.contract import Outcome, Row

Done = Callable[[Outcome], None]
RowDone = Callable[[bool], None]
"""Told from the writer's thread that a row is durable, or that it was dropped; not told when the daemon ends first."""
Log = Callable[..., None]


def tell(done: Done, outcome: Outcome, log: Log) -> None:
    """Tell who submitted a step."""
    try:
        done(outcome)
    except Exception as error:  # noqa: BLE001  # one listener's trouble must not reach the others
        _say(error, log)


def tell_rows(rows: Sequence[tuple[Row, RowDone | None]], dropped: set[int], log: Log) -> None:
    """Tell who submitted rows; of those that were dropped `dropped` holds the `id`."""
    for row, done in rows:
        if done is None:
            continue
        try:
            done(id(row) not in dropped)
        except Exception as error:  # noqa: BLE001  # one listener's trouble must not reach the others
            _say(error, log)


def tell_decided(calls: Iterable[Callable[[], None]], log: Log) -> None:
    """Tell who waits until nothing of a conversation is undecided any more."""
    for call in calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001  # as in `tell`
            _say(error, log)


def _say(error: Exception, log: Log) -> None:
    failed = {"error_type": type(error).__name__, "error_message": str(error)}
    log("commit_callback_failed", level="error", **failed)
