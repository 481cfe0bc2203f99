"""What an exception says and holds, whatever it does when it is looked at: clipped, printable, never raising."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from typing import Any, Final

MAX_TEXT: Final = 500
"""Characters kept: enough for a person to understand, too few to flood a log. messages/failure.py has the same."""
UNREADABLE: Final = "(its text cannot be read)"


def read(thing: Any, name: str) -> Any:
    """Return an attribute, or None where there is none or looking at it raises."""
    try:
        return getattr(thing, name, None)
    except BaseException:  # noqa: BLE001  # a hostile property must not escape; it says as much as an absent one
        return None


def describe(error: BaseException, inner: BaseException | None = None) -> str:
    """Return what `error` says, at most `MAX_TEXT` characters; `inner` is the member that speaks for a group."""
    text = _words(error)
    if inner is not None:
        text = f"{text}: {type(inner).__name__}: {_words(inner)}"
    return clean(text) or type(error).__name__


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the members of a group and of those in it, each once, in order; of any other error, itself."""
    # Groups nest to any depth and may share members, so neither recursion nor a plain walk is safe.
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, BaseExceptionGroup):
            todo.extend(reversed(one.exceptions))
        else:
            yield one


def clean(text: str) -> str:
    """Clip `text` to `MAX_TEXT` characters, marking the cut; what is not printable becomes a blank."""
    # The cut comes first: a message may be 100 MB long.
    printable = "".join(c if c.isprintable() else " " for c in _head(text))
    return printable.strip() if len(printable) <= MAX_TEXT else printable[: MAX_TEXT - 1] + "…"


def _words(error: BaseException) -> str:
    try:
        if type(error).__str__ in (BaseException.__str__, KeyError.__str__):
            return _arguments(error)
        if isinstance(error, BaseExceptionGroup) and type(error).__str__ is BaseExceptionGroup.__str__:
            count = len(error.exceptions)
            return f"{_head(error.message)} ({count} sub-exception{'s' * (count != 1)})"
        return _head(str(error))
    except BaseException:  # noqa: BLE001  # an unprintable exception is still an exception to report
        return UNREADABLE


def _arguments(error: BaseException) -> str:
    # What str() would give, without making a copy of a huge argument first.
    args = error.args
    if len(args) == 1 and isinstance(args[0], str):
        head = _head(args[0])
        return repr(head) if isinstance(error, KeyError) else head
    if len(args) == 1:
        return _SHORT.repr(args[0]) if isinstance(error, KeyError) else _short_str(args[0])
    return "" if not args else f"({', '.join(_SHORT.repr(arg) for arg in args)})"


def _short_str(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, list, tuple, dict, set, frozenset)):
        return _SHORT.repr(value)
    return _head(str(value))


def _head(text: str) -> str:
    # By str's own method: a message may be of a hostile subclass of str.
    return str.__getitem__(text, slice(0, MAX_TEXT + 1))


class _Short(reprlib.Repr):
    """Repr of bounded length; the standard one builds the whole text of bytes first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200

    def repr_bytes(self, value: bytes, _level: int) -> str:
        return repr(value[:100]) + ("..." if len(value) > 100 else "")

    repr_bytearray = repr_bytes


_SHORT: Final = _Short()
