"""Holds the code to the catalogue: finds every call of a `log` hook and names what the catalogue does not know."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetry.catalogue import COMMON, EVENTS

_HOOKS: Final = frozenset({"log", "_log"})
_SETTINGS: Final = frozenset({"level"})
_ANY_LEVEL: Final = frozenset({"error", "library_message"})
"""Events that stand for many things: how bad each is, is said where it is logged."""


@dataclass(frozen=True, slots=True)
class LogCall:
    """One call in the code: `log("name", field=...)`, `self.log(...)`, `self._log(...)`."""

    path: Path
    line: int
    event: str
    fields: frozenset[str]
    level: str | None = None
    """The level that is written out, if any."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What the catalogue says against it."""
        where = f"{self.path}:{self.line}"
        event = EVENTS.get(self.event)
        if event is None:
            return (f"{where}: {self.event!r} is not in telemetry/catalogue.py",)
        unknown = self.fields - COMMON.keys() - set(event.fields) - _SETTINGS
        said = [f"{where}: {self.event} has no field {field!r}" for field in sorted(unknown)]
        if self.level not in (None, event.level) and self.event not in _ANY_LEVEL:
            said.append(f"{where}: {self.event} is logged as {self.level}, and listed as {event.level}")
        return tuple(said)


def log_calls(paths: Iterable[Path]) -> Iterator[LogCall]:
    """Yield the calls whose event is written out; one that comes in a variable was checked where it was written."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _hook(node.func) in _HOOKS and node.args:
                fields = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
                for event in _names(node.args[0]):
                    yield LogCall(path, node.lineno, event, fields, _level(node))


def problems(paths: Iterable[Path]) -> list[str]:
    """Return one sentence per name or field that the catalogue does not know."""
    return [problem for call in log_calls(paths) for problem in call.problems]


def unused(paths: Iterable[Path]) -> set[str]:
    """Return the events of the catalogue that are written nowhere in the code, not even as a bare text."""
    texts: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return set(EVENTS) - texts


def _hook(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _level(call: ast.Call) -> str | None:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "level"]
    return next((v.value for v in given if isinstance(v, ast.Constant) and isinstance(v.value, str)), None)


def _names(argument: ast.expr) -> Iterator[str]:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value
    elif isinstance(argument, ast.IfExp):
        yield from _names(argument.body)
        yield from _names(argument.orelse)
