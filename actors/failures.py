"""From an exception to the failure that is told: classed by supervision, shaped for messages."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from messages.failure import Failure
from supervision.errors import Classified, Types, classify


def as_failure(classified: Classified) -> Failure:
    """Return a classified error as the message that is journaled, logged and shown."""
    return Failure(
        type=classified.type,
        error_class=classified.error_class.value,
        message=classified.message,
        retry_after=classified.retry_after,
        counted=classified.counted,
    )


def to_failure(
    error: BaseException, *, transient: Types = (), permanent: Types = (), now_s: float | None = None
) -> Failure:
    """Return an exception as a failure; the parameters are those of `supervision.errors.classify`."""
    return as_failure(classify(error, transient=transient, permanent=permanent, now_s=now_s))


_TRACEBACK: Final[Any] = BaseException.__dict__["__traceback__"]


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return where an exception was raised, whatever its own class would say to that, or raise."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def where(error: BaseException) -> str:
    """Return the place an exception came from, as `file:line in function`, without values or source text."""
    traceback = traceback_of(error)
    if traceback is None:
        return "unknown"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f"{code.co_filename}:{traceback.tb_lineno} in {code.co_qualname}"
