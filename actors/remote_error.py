"""What an agent raised in a worker process, as an exception here; the other end of agents/exception_facts.py.

Its class is read by the same rules as that of any exception: a stand-in is built of the facts, with the bases that the
original had as far as the standard library knows them, and classed by supervision. Nothing in the facts names code.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import socket
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

from agents.exception_facts import READ
from supervision.error_text import clean
from supervision.errors import Classified, classify

_KNOWN: Final[dict[str, type[BaseException]]] = {
    **{
        f"builtins.{name}": kind
        for name, kind in vars(builtins).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    },
    "socket.gaierror": socket.gaierror,
    "asyncio.exceptions.CancelledError": asyncio.CancelledError,
}
_GROUPS: Final = (BaseExceptionGroup,)
_MAX_DEPTH: Final = 10


class RemoteError(Exception):
    """An agent's exception from another process. `error_type` is the name of its type there."""

    usable = False
    """Whether the process that raised it can make another call."""

    def __init__(self, told: dict[str, Any], *, now_s: float | None = None) -> None:
        stand_in = _stand_in(told, _MAX_DEPTH)
        classified: Classified = classify(stand_in, now_s=now_s)
        self.remote_type = str(told.get("type", "Exception"))[:100]
        text = classified.message if "leaves" in told else clean(str(told.get("text", "")))
        super().__init__(text or self.remote_type)
        self.error_type = classified.type if "error_type" in told else self.remote_type
        self.mro = tuple(_texts(told.get("mro")))
        """Qualified names of the type and its bases."""
        self.retry_after = classified.retry_after
        self.sqlstate = getattr(stand_in, "sqlstate", None)
        self.errno = getattr(stand_in, "errno", None)
        self.status_code = None if classified.counted else 429
        response = getattr(stand_in, "response", None)
        for status in (getattr(stand_in, "status_code", None), getattr(response, "status_code", None)):
            self.status_code = status if self.status_code is None else self.status_code
        if not classified.once:  # left out, it is unknown here as it was there: one retry, no more
            self.error_class = classified.error_class.value


def _stand_in(told: dict[str, Any], depth: int) -> BaseException:
    leaves = [_stand_in(leaf, depth - 1) for leaf in _maps(told.get("leaves"))] if depth else []
    error: BaseException
    if leaves:
        error = _Group(str(told.get("text", "")), leaves)
    else:
        kind = _kind(_texts(told.get("mro")))
        error = kind.__new__(kind)
        error.args = (str(told.get("text", "")),)
    for name in READ:
        if name in told:
            with contextlib.suppress(AttributeError, TypeError):  # read-only here, so it says nothing here either
                setattr(error, name, told[name])
    response = told.get("response")
    if isinstance(response, dict):
        headers = {"Retry-After": response["retry_after"]} if "retry_after" in response else {}
        with contextlib.suppress(AttributeError, TypeError):  # as above
            error.response = SimpleNamespace(status_code=response.get("status_code"), headers=headers)  # type: ignore[attr-defined]  # that is what HTTP clients' errors have
    return error


class _Group(BaseExceptionGroup[BaseException]):
    """A group whose text says already how many members the original had: those told may be fewer."""

    def __str__(self) -> str:
        return self.message


def _kind(mro: Sequence[str]) -> type[BaseException]:
    """Return a type with the bases in `mro`: the nearest known one, and bare ones of the same name below it."""
    unknown: list[str] = []
    kind: type[BaseException] = Exception
    for name in mro:
        if name in _KNOWN:
            kind = _KNOWN[name]
            break
        unknown.append(name.rpartition(".")[2])
    if issubclass(kind, _GROUPS):  # its members were not told
        kind = Exception
    for name in reversed(unknown[:_MAX_DEPTH]):
        kind = type(name if name.isidentifier() else "RemoteException", (kind,), {"__module__": __name__})
    return kind


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _maps(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
