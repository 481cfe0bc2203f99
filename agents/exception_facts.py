"""An exception as plain data: what supervision would read of it, for an exception that must leave its process.

The other end is actors/remote_error.py. What counts as transient or permanent by the agent's own lists is decided here,
where the types exist, by the same rule as in supervision/errors.py: the most specific type wins.
"""

from __future__ import annotations

from typing import Any, Final

from agents.spec import Types
from supervision.error_text import UNREADABLE, describe, leaves, read

READ: Final = (
    "status_code",
    "status",
    "code",
    "retry_after",
    "sqlstate",
    "pgcode",
    "errno",
    "error_class",
    "error_type",
)
"""Attributes that mean something to supervision."""
_MAX_SCALAR: Final = 500
"""Characters told of a text that is not the error's own words."""
_MAX_LEAVES: Final = 20
"""Members of an exception group that are told, of whatever depth."""
_MAX_BASES: Final = 50
"""Types told of an exception; those of the standard library come last and are what matters."""


def facts(error: BaseException, *, transient: Types = (), permanent: Types = ()) -> dict[str, Any]:
    """Return an exception as data. Never raises, whatever the exception does when it is looked at."""
    try:
        told = _facts(error, transient, permanent)
        members = _members(error) if isinstance(error, BaseExceptionGroup) and "error_class" not in told else []
        if members:
            told["leaves"] = [_facts(member, transient, permanent) for member in members]
    except BaseException:  # noqa: BLE001  # a hostile metaclass or `__class__`: only what cannot be hidden is told
        name = _clean(type.__getattribute__(type(error), "__name__"))
        return {"type": name, "text": UNREADABLE, "mro": [name, "builtins.Exception"]}
    return told


def _facts(error: BaseException, transient: Types, permanent: Types) -> dict[str, Any]:
    kind = type(error)
    bases = kind.__mro__
    if len(bases) > _MAX_BASES:
        bases = (kind, *bases[1 - _MAX_BASES :])
    told: dict[str, Any] = {
        "type": _clean(kind.__name__),
        "text": describe(error),
        "mro": [_clean(f"{base.__module__}.{base.__qualname__}") for base in bases],
    }
    for name in READ:
        value = read(error, name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            told[name] = _scalar(value)
    response = read(error, "response")
    if response is not None:
        told["response"] = _response(response)
    own = _own_class(error, transient, permanent)
    if own is not None:
        told["error_class"] = own
    return told


def _members(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return as many members as are told, one of each type before any second one."""
    found = list(leaves(group))
    if len(found) <= _MAX_LEAVES:
        return found
    first = {type(leaf): leaf for leaf in reversed(found)}
    kept = {id(leaf) for leaf in first.values()}
    return [*reversed(first.values()), *(leaf for leaf in found if id(leaf) not in kept)][:_MAX_LEAVES]


def _response(response: Any) -> dict[str, Any]:
    status = read(response, "status_code")
    told: dict[str, Any] = {"status_code": status} if isinstance(status, int) else {}
    try:
        waits = response.headers.get("Retry-After")
    except BaseException:  # noqa: BLE001  # a response without headers, or a hostile one: nothing is known of a delay
        return told
    if isinstance(waits, str):
        told["retry_after"] = _clean(waits)
    return told


def _own_class(error: BaseException, transient: Types, permanent: Types) -> str | None:
    near_transient, near_permanent = _distance(error, transient), _distance(error, permanent)
    if near_transient is None and near_permanent is None:
        return None
    if near_transient is None or (near_permanent is not None and near_permanent <= near_transient):
        return "permanent"
    return "transient"


def _distance(error: BaseException, types: Types) -> int | None:
    mro = type(error).__mro__
    return min((mro.index(t) if t in mro else len(mro) for t in types if isinstance(error, t)), default=None)


def _scalar(value: str | float) -> str | float:
    if isinstance(value, str):
        return _clean(value)
    return value if -(2**63) <= value < 2**63 else 0


def _clean(text: str) -> str:
    return str.__getitem__(text, slice(0, _MAX_SCALAR)).encode("utf-8", "replace").decode()
