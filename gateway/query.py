"""Query parameters, as a table per route: what is taken, how it is read, and how it is documented.

Unknown parameters are refused: a misspelt `limt=5` must not silently mean the default.
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from gateway.problems import Problem
from messages.base import CONVERSATION_ID_PATTERN

MAX_SEQ = 2**63 - 1
MAX_WAIT = 3600.0


@dataclass(frozen=True, slots=True)
class Param:
    """One query parameter."""

    name: str
    read: Callable[[str], Any]
    """Returns the value; raises `ValueError` with the accepted form."""
    default: Any
    meaning: str
    schema: dict[str, Any]


def read_query(query: QueryParams, params: Collection[Param]) -> dict[str, Any]:
    """Return every parameter's value, defaults included. Raises `Problem` naming the first that is wrong."""
    known = {param.name: param for param in params}
    for name in query:
        if name not in known:
            taken = f"this route takes {', '.join(known)}" if known else "this route takes none"
            raise Problem("invalid_field", f"{name[:60]!r} is not a known parameter; {taken}", field=name[:60])
    values: dict[str, Any] = {}
    for name, param in known.items():
        given = query.getlist(name)
        if len(given) > 1:
            raise Problem("invalid_field", f"{name} is given {len(given)} times", field=name)
        try:
            values[name] = param.read(given[0]) if given else param.default
        except ValueError as error:
            raise Problem("invalid_field", f"{name} is {given[0][:60]!r}; it must be {error}", field=name) from None
    return values


def document(params: Collection[Param]) -> list[dict[str, Any]]:
    """Return the parameters as OpenAPI has them."""
    return [
        {"name": p.name, "in": "query", "required": False, "description": p.meaning, "schema": p.schema} for p in params
    ]


def whole(name: str, default: int, lowest: int, highest: int, meaning: str) -> Param:
    """Return a parameter that is a whole number."""

    def read(text: str) -> int:
        # ASCII digits only: int() would also take signs, blanks, underscores and other scripts' digits.
        if not re.fullmatch(r"[0-9]{1,19}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return int(text)

    schema = {"type": "integer", "minimum": lowest, "maximum": highest, "default": default}
    return Param(name, read, default, meaning, schema)


def seconds(name: str, highest: float, meaning: str) -> Param:
    """Return a parameter that is a number of seconds."""

    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?", text) or float(text) > highest:
            raise ValueError(f"a number of seconds from 0 to {highest:g}")
        return float(text)

    return Param(name, read, None, meaning, {"type": "number", "minimum": 0, "maximum": highest})


def one_of(name: str, words: Collection[str], meaning: str) -> Param:
    """Return a parameter that is one of a few words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return Param(name, read, None, meaning, {"type": "string", "enum": list(words)})


def matching(name: str, pattern: str, says: str, meaning: str) -> Param:
    """Return a parameter that is a text of a certain form."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(says)
        return text

    return Param(name, read, None, meaning, {"type": "string", "pattern": f"^{pattern}$"})


def cursor(name: str, meaning: str) -> Param:
    """Return a parameter that is what `next` of the page before said."""

    def read(text: str) -> tuple[int, str]:
        try:
            plain = b64decode(text.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
        except ValueError:
            plain = ""
        moment, _, last_id = plain.partition(":")
        if not re.fullmatch(r"[0-9]{1,18}", moment) or not re.fullmatch(CONVERSATION_ID_PATTERN, last_id):
            raise ValueError("what `next` of the page before said")
        return int(moment), last_id

    return Param(name, read, None, meaning, {"type": "string", "pattern": "^[A-Za-z0-9_-]{4,}={0,2}$"})


def encode_cursor(moment: int, last_id: str) -> str:
    """Return the place after this row, as clients are to give it back."""
    return urlsafe_b64encode(f"{moment}:{last_id}".encode()).decode("ascii")
