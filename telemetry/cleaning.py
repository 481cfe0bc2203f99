"""Makes values fit to be logged: bounded, printable, without secrets.

`freeze` runs in the caller's thread and only bounds; `Cleaner` runs in the writer's thread and does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from math import isfinite
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

MAX_TEXT: Final = 4_096
"""Characters of one value in a log line; a traceback has as many per line."""
_KEPT: Final = 2 * MAX_TEXT
"""Characters kept until secrets are masked, so that a cut cannot go through one and leave its first half."""
MAX_ITEMS: Final = 100
"""Items of one value, those of its lists and tables included."""
MAX_DEPTH: Final = 5

MASK: Final = "***"

PLAIN: Final = frozenset({bool, int, float, type(None)})
"""Types of values that nobody can change and that take little room."""
_WRITTEN: Final = (PurePath, UUID, date, time, Decimal)
"""Types whose own text is short and runs no code of ours or of an agent."""


def freeze(value: Any) -> Any:
    """Return a bounded copy made of plain data. Runs no foreign code.

    What is no data is shown as its type: its own text might be huge, secret, or an exception.
    """
    return _freeze(value, MAX_DEPTH, [MAX_ITEMS])


def _freeze(value: Any, depth: int, room: list[int]) -> Any:
    kind = type(value)
    if kind is str:
        return value if len(value) <= _KEPT else value[:_KEPT]
    if kind in PLAIN:
        return _number(value)
    if isinstance(value, str):
        return str.__getitem__(value, slice(0, _KEPT))
    if isinstance(value, Enum):
        return _freeze(value._value_, depth - 1, room) if depth else "…"
    if kind in {bytes, bytearray, memoryview}:
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return describe(value)
    if isinstance(value, _WRITTEN):
        return str(value)[:_KEPT]
    return _container(value, depth, room)


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    # Python refuses to write integers of thousands of digits; nobody could read them anyway.
    return value if not isinstance(value, int) or value.bit_length() <= 256 else "<huge number>"


def _container(value: Any, depth: int, room: list[int]) -> Any:
    """Copy what is inside; `room` is how many items the whole value may still have, at all its levels together."""
    kind = type(value)
    if kind is not dict and kind is not list and kind is not tuple and kind is not set and kind is not frozenset:
        return f"<{kind.__name__}>"
    if not depth or not room[0]:
        return "…"
    try:
        items = list(value)[: room[0]]
        room[0] -= len(items)
        if isinstance(value, dict):
            return {_key(key): _freeze(value[key], depth - 1, room) for key in items}
        return [_freeze(each, depth - 1, room) for each in items]
    except (RuntimeError, KeyError):  # somebody changes it while it is copied
        return "<changing>"


def _key(key: Any) -> str:
    return key[:100] if type(key) is str else str(_freeze(key, 1, [1]))[:100]


def describe(error: BaseException) -> str:
    """Return an exception's type and text, bounded. Never raises, whatever the exception does."""
    try:
        text = str.__getitem__(str(error), slice(0, _KEPT))
    except BaseException:  # noqa: BLE001  # an unprintable exception is still an exception to report
        text = "(its text cannot be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# Control characters


_SEQUENCES: Final = re.compile(
    r"(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # operating system commands: titles, links, clipboards
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c]*(?:\x1b\\|\x9c)?"  # device control and private strings
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor
    r"|\x1b[ -/]*[0-~]?"  # the rest
)


def sanitise(text: str) -> str:
    """Return `text` on one line without anything a terminal or a viewer might act on or be fooled by.

    Escape sequences go whole; C0, C1, bidirectional and other invisible characters go; line ends and tabs become
    blanks; lone surrogates, which cannot be encoded, become U+FFFD.
    """
    if text.isprintable():
        return text
    if "\x1b" in text or not text.isascii():
        text = _SEQUENCES.sub("", text)
    return "".join(map(_safe, text))


def _safe(char: str) -> str:
    if char.isprintable():
        return char
    if char in "\n\r\t\v\f\x85\u2028\u2029\xa0\u202f\u3000":
        return " "
    # Blanks of other widths are harmless; what is left is invisible or not a character at all.
    return "\ufffd" if "\ud800" <= char <= "\udfff" else " " if char.isspace() and char > "\x9f" else ""


# Secrets


_SECRET_KEY: Final = re.compile(
    r"token|secret|passw|passphrase|authorization|dsn|api_?key|private_?key|access_?key|credential|cookie|"
    r"(?:redis|database|postgres)_?url",
    re.IGNORECASE,
)
_WORTH_A_LOOK: Final = re.compile(
    r"://|bearer|basic|token|secret|passw|api.?key|authorization|credential|cookie|eyJ|\b(?:sk|pk|gh[a-z]|xox[a-z])[-_]"
    r"|AKIA",
    re.IGNORECASE,
)
_SIGNS: Final = (
    *("://", "bearer", "basic", "token", "secret", "passw", "key", "authorization", "credential", "cookie"),
    *("eyj", "sk", "pk", "gh", "xox", "akia"),
)
"""One of them is in every ASCII text that the expression above finds something in; a name has hardly ever one.

To look for them all takes a fifth of what the expression takes.
"""
_RUN_AFTER_SCHEME: Final = re.compile(r"""://[^\s"'<>]+""")
# Each is linear in the text: it begins at a fixed word and has a bounded way to go before it knows. A hostile text
# would otherwise hold the interpreter for seconds.
_RULES: Final = (
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(
            r"""((?:token|secret|passw(?:or)?d?|api[_-]?key|authorization|credential|cookie)[\w-]{0,40}["']?"""
            r"""\s{0,8}[=:]\s{0,8})(?!bearer\b|basic\b)(?:"[^"]*"?|'[^']*'?|[^\s"',;&)}\]]+)""",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w.-]+"), MASK),
    (re.compile(r"(?<![\w-])(?:sk|pk|gh[a-z]|xox[a-z])[-_][\w-]{12,}|\bAKIA[A-Z0-9]{12,}"), MASK),
)


def _without_user(run: re.Match[str]) -> str:
    # Up to the last @: a password may hold any other sign.
    before, at, place = run[0].rpartition("@")
    return f"://{MASK}@{place}" if at and before else run[0]


_TEXT_KEYS: Final = frozenset(
    {"text", "texts", "prompt", "inputs", "result", "results", "context", "body", "data", "answer"}
)
"""What people said and what agents found: not logged above DEBUG."""

_OUR_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What we name requests and messages with: long to look at, and no two are the same."""
_SHORT: Final = 80
"""Characters of a text that is worth remembering."""
_REMEMBERED: Final = 4_096
"""Texts; then all are forgotten, which costs less than to know the oldest."""

_MIN_SECRET: Final = 4
"""Characters; replacing anything shorter wherever it occurs would make every line unreadable."""


@lru_cache(maxsize=1_024)
def _is_secret_key(key: str) -> bool:
    return _SECRET_KEY.search(key.replace("-", "_")) is not None


def _is_worth_a_look(text: str) -> bool:
    if text.isascii():  # elsewhere there are letters that count as another's small or capital form
        small = text.lower()
        for sign in _SIGNS:
            if sign in small:
                break
        else:
            return False
    return _WORTH_A_LOOK.search(text) is not None


class Cleaner:
    """Sanitises and redacts whole entries. `secrets` are masked wherever they occur, even inside other words."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: a secret may contain another.
        self._secrets = tuple(sorted({s for s in secrets if len(s) >= _MIN_SECRET}, key=len, reverse=True))
        # Most values are names and ids that come again and again; keys are our own.
        self._texts: dict[str, str] = {}
        self._keys: tuple[dict[str, tuple[str, bool]], ...] = ({}, {})
        """By whether texts are hidden: a key's clean name, and whether its values are shown as they are if clean."""

    def __call__(self, entry: Mapping[str, Any], *, hide: bool = True) -> dict[str, Any]:
        """Return a clean copy of a frozen entry; message texts are kept unless `hide` says that they are not."""
        clean: dict[str, Any] = {}
        self.put(clean, entry, hide=hide)
        return clean

    def put(self, clean: dict[str, Any], entry: Mapping[str, Any], *, hide: bool) -> None:
        """Do so, into what is clean already."""
        keys, texts = self._keys[hide], self._texts
        # Some twenty entries for a request pass through here: whatever is usual is decided without a further call.
        for key, value in entry.items():
            name, open_ = keys.get(key) or self._look_at(key, hide)
            kind = type(value)
            if kind is str and open_:
                clean[name] = texts.get(value) or self.text(value)
            elif kind in PLAIN:
                clean[name] = value if kind is not float or isfinite(value) else str(value)
            else:
                clean[name] = self._value(key, value, _TEXT_KEYS if hide else frozenset())

    def _look_at(self, key: str, hide: bool) -> tuple[str, bool]:  # a position in `_keys`
        found = self.text(key), not (_is_secret_key(key) or (hide and key in _TEXT_KEYS))
        # Names come from our own code, but a mistake there must not fill the memory.
        if len(self._keys[hide]) < 1_000:
            self._keys[hide][key] = found
        return found

    def _value(self, key: str, value: Any, hide: frozenset[str]) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if _is_secret_key(key):
            return MASK
        if key in hide:
            return f"({len(value)} characters)" if isinstance(value, str) else "(not shown)"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(inner): self._value(inner, each, hide) for inner, each in value.items()}
        return [self._value("", each, hide) for each in value]

    def text(self, text: str) -> str:
        """Return one text, clean and at most `MAX_TEXT` characters."""
        clean = self._clean(text)
        if len(text) <= _SHORT:
            if len(self._texts) >= _REMEMBERED:
                self._texts.clear()
            self._texts[text] = clean
        return clean

    def _clean(self, text: str) -> str:
        ours = _OUR_ID.fullmatch(text)
        text = text if ours else sanitise(text)
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        if not ours and _is_worth_a_look(text):
            text = _RUN_AFTER_SCHEME.sub(_without_user, text)
            for rule, masked in _RULES:
                text = rule.sub(masked, text)
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
