"""What an exception means for a retry: transient, permanent or fatal, read from the exception alone.

The first source that says something decides: the agent's own lists (the most specific type wins), the exception's
`error_class`, process-level types, an HTTP status, an SQLSTATE, the standard library's types, names that libraries
commonly give to timeouts and lost connections. What nobody knows is transient, but to be retried `once` only.
`__cause__` is not followed: who raises one exception from another has chosen what it means.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from supervision.error_text import UNREADABLE, describe, leaves, read
from supervision.retry_after import retry_after


class ErrorClass(StrEnum):
    """Worth a retry; not worth one; took its process or thread along."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class Classified:
    """An exception as data."""

    type: str
    """Name of the exception's type, or the text of its `error_type` attribute."""
    error_class: ErrorClass
    message: str
    """At most 500 printable characters."""
    retry_after: float | None = None
    """Seconds the failing side asked to be left alone."""
    counted: bool = True
    """False for a 429, which says nothing about the agent's health."""
    once: bool = False
    """True when nothing is known about this error: one retry, no more."""


Types = tuple[type[BaseException], ...]


def classify(
    error: BaseException, *, transient: Types = (), permanent: Types = (), now_s: float | None = None
) -> Classified:
    """Return what `error` means.

    `transient` and `permanent` are the agent's own lists. `now_s` is the wall clock in seconds since the epoch; without
    it a `Retry-After` that is a date is ignored. Never raises, whatever the exception does when it is looked at.
    """
    try:
        return _classify(error, transient, permanent, now_s)
    except BaseException:  # noqa: BLE001  # a hostile metaclass or `__class__`: nothing is known about such an error
        name = type.__getattribute__(type(error), "__name__")
        return Classified(str(name)[:100], ErrorClass.TRANSIENT, UNREADABLE, once=True)


def _classify(error: BaseException, transient: Types, permanent: Types, now_s: float | None) -> Classified:
    own = _override(error, transient, permanent)
    told = [error] if own else list(leaves(error))
    judged = [_judge(leaf, transient, permanent) for leaf in told]
    worst = max(range(len(judged)), key=lambda i: _RANK[judged[i][0]])
    waits = [wait for leaf in told if (wait := retry_after(leaf, now_s)) is not None]
    inner = None if told[worst] is error else told[worst]
    name = read(error, "error_type")
    return Classified(
        type=name[:100] if isinstance(name, str) and name else type(error).__name__,
        error_class=judged[worst][0],
        message=describe(error, inner),
        retry_after=max(waits, default=None),
        counted=any(_status(leaf) != _TOO_MANY_REQUESTS for leaf in told),
        once=judged[worst][0] is ErrorClass.TRANSIENT and any(once for _, once in judged),
    )


_RANK: Final = {ErrorClass.TRANSIENT: 0, ErrorClass.PERMANENT: 1, ErrorClass.FATAL: 2}
_TOO_MANY_REQUESTS: Final = 429

_Judgement = tuple[ErrorClass, bool]


def _judge(error: BaseException, transient: Types, permanent: Types) -> _Judgement:
    error_class = (
        _override(error, transient, permanent)
        or _declared(error)
        or _process_level(error)
        or _by_status(error)
        or _by_database(error)
        or _by_type(error)
    )
    return (error_class, False) if error_class else (ErrorClass.TRANSIENT, True)


def _override(error: BaseException, transient: Types, permanent: Types) -> ErrorClass | None:
    near_transient = _distance(error, transient)
    near_permanent = _distance(error, permanent)
    if near_transient is None and near_permanent is None:
        return None
    if near_transient is None or (near_permanent is not None and near_permanent <= near_transient):
        return ErrorClass.PERMANENT
    return ErrorClass.TRANSIENT


def _distance(error: BaseException, types: Types) -> int | None:
    mro = type(error).__mro__
    # A match that is not in the MRO is an abstract base class: the least specific of all.
    return min((mro.index(t) if t in mro else len(mro) for t in types if isinstance(error, t)), default=None)


def _declared(error: BaseException) -> ErrorClass | None:
    value = read(error, "error_class")
    return ErrorClass(value) if isinstance(value, str) and value in set(ErrorClass) else None


def _process_level(error: BaseException) -> ErrorClass | None:
    if isinstance(error, asyncio.CancelledError):
        return ErrorClass.TRANSIENT
    if isinstance(error, MemoryError) or not isinstance(error, Exception):
        return ErrorClass.FATAL
    return None


# HTTP


def _status(error: BaseException) -> int | None:
    found: tuple[Any, ...] = (
        read(error, "status_code"),
        read(error, "status"),
        read(error, "code"),
        read(read(error, "response"), "status_code"),
    )
    for value in found:
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return int(value)
    return None


def _by_status(error: BaseException) -> ErrorClass | None:
    status = _status(error)
    if status is None:
        return None
    return ErrorClass.TRANSIENT if status >= 500 or status in {408, 409, 425, 429} else ErrorClass.PERMANENT


# Databases


_TRANSIENT_SQLSTATES: Final = ("08", "40001", "40P01", "53", "55P03", "57014", "57P0")
"""Connection lost, serialization failure, deadlock, out of resources, lock not available, cancelled (as a statement's
timeout does), server shutting down."""
_TRANSIENT_IN_SQLITE: Final = ("locked", "busy", "full", "disk i/o")


def _by_database(error: BaseException) -> ErrorClass | None:
    if isinstance(error, sqlite3.OperationalError):
        text = describe(error).lower()
        passes = any(word in text for word in _TRANSIENT_IN_SQLITE)
        return ErrorClass.TRANSIENT if passes else ErrorClass.PERMANENT  # a missing table, a wrong statement
    if isinstance(error, sqlite3.Error):
        return ErrorClass.PERMANENT
    state = read(error, "sqlstate") or read(error, "pgcode")
    if not isinstance(state, str) or len(state) != 5:
        return None
    return ErrorClass.TRANSIENT if state.startswith(_TRANSIENT_SQLSTATES) else ErrorClass.PERMANENT


# Types


_BY_TYPE: Final[dict[type[BaseException], ErrorClass]] = {
    **dict.fromkeys(
        (TimeoutError, ConnectionError, InterruptedError, BlockingIOError),
        ErrorClass.TRANSIENT,
    ),
    **dict.fromkeys(
        (
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            AssertionError,
            ArithmeticError,
            NotImplementedError,
            ImportError,
            NameError,
            SyntaxError,
            RecursionError,
            StopIteration,
            StopAsyncIteration,
            FileNotFoundError,
            FileExistsError,
            IsADirectoryError,
            NotADirectoryError,
            PermissionError,
        ),
        ErrorClass.PERMANENT,
    ),
}

_TRANSIENT_ERRNOS: Final = frozenset(
    {
        errno.EAGAIN,
        errno.EWOULDBLOCK,
        errno.EINTR,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.EPIPE,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
    }
)

_BY_NAME: Final[dict[str, ErrorClass]] = {
    **dict.fromkeys(
        (
            *("Timeout", "TimeoutError", "TimeoutException", "ConnectionError", "NetworkError", "CancelledError"),
            *("SSLError", "IncompleteRead", "BadStatusLine", "RemoteProtocolError"),
            *("OperationalError", "ReadOnlyError", "OutOfMemoryError", "BusyLoadingError", "ClusterDownError"),
        ),
        ErrorClass.TRANSIENT,
    ),
    **dict.fromkeys(
        (
            *("SSLCertVerificationError", "TooManyRedirects", "InvalidURL", "UnsupportedProtocol"),
            *("IntegrityError", "ProgrammingError", "DataError", "NotSupportedError"),
            *("ResponseError", "AuthenticationError", "AuthorizationError", "NoPermissionError"),
        ),
        ErrorClass.PERMANENT,
    ),
}
"""Names that HTTP clients, databases' drivers (PEP 249), Redis clients and executors give to errors of their own; the
most specific one of an exception's types decides."""


def _by_type(error: BaseException) -> ErrorClass | None:
    for cls in type(error).__mro__:
        known = _BY_TYPE.get(cls)
        if known is not None:
            return known
        if cls is socket.gaierror:
            return ErrorClass.TRANSIENT if read(error, "errno") == socket.EAI_AGAIN else None
        if cls is OSError and read(error, "errno") in _TRANSIENT_ERRNOS:
            return ErrorClass.TRANSIENT
        named = _BY_NAME.get(cls.__name__)
        if named is not None:
            return named
    return None
