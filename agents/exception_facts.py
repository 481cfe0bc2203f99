"""An exception as plain data: what supervision would read of it, for an exception that must leave its process.

The other end is actors/remote_error.py. What counts as transient or permanent by the agent's own lists is decided here,
where the types exist, by the same rule as in supervision/errors.py: the most specific type wins.
"""

from __future__ import annotations

from typing import Any, Final

from agents.spec import Types

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
_MAX_TEXT: Final = 501
"""Characters told: one more than are shown, so that the cut is marked there."""
_MAX_LEAVES: Final = 20
"""Members of an exception group that are told."""


def facts(error: BaseException, *, transient: Types = (), permanent: Types = ()) -> dict[str, Any]:
    """Return an exception as data. Never raises, whatever the exception does when it is looked at."""
    kind = type(error)
    told: dict[str, Any] = {
        "type": _clean(kind.__name__),
        "text": _text(error),
        "mro": [_clean(f"{base.__module__}.{base.__qualname__}") for base in kind.__mro__],
    }
    for name in READ:
        value = _read(error, name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            told[name] = _scalar(value)
    response = _read(error, "response")
    if response is not None:
        told["response"] = _response(response)
    own = _own_class(error, transient, permanent)
    if own is not None:
        told["error_class"] = own
    elif isinstance(error, BaseExceptionGroup):
        leaves = error.exceptions[:_MAX_LEAVES]
        told["leaves"] = [facts(leaf, transient=transient, permanent=permanent) for leaf in leaves]
    return told


def _response(response: Any) -> dict[str, Any]:
    status = _read(response, "status_code")
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


def _read(thing: Any, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except BaseException:  # noqa: BLE001  # a hostile property says as much as an absent one
        return None


def _text(error: BaseException) -> str:
    try:
        # A group's own words: how many members it has is added where it is shown.
        return _clean(error.message if isinstance(error, BaseExceptionGroup) else str(error))
    except BaseException:  # noqa: BLE001  # an unprintable exception is still an exception to report
        return "(its text cannot be read)"


def _scalar(value: str | float) -> str | float:
    if isinstance(value, str):
        return _clean(value)
    return value if -(2**63) <= value < 2**63 else 0


def _clean(text: str) -> str:
    return str.__getitem__(text, slice(0, _MAX_TEXT)).encode("utf-8", "replace").decode()
