"""Printing: results to stdout, words to stderr; JSON for programs, plain text without a terminal, never a control code.

Texts of users and agents are data: what could move the cursor, colour the screen or turn the direction of writing is
taken out before it reaches a terminal.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console, RenderableType

_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 but for tab and line feed, DEL, C1, the characters that change the direction of writing, and lone surrogates."""

_PLAIN_WIDTH: Final = 10_000
"""Columns where there is no terminal: nothing is cut or wrapped, so that `grep` sees whole lines."""


class NotPrinted(Exception):
    """Stdout does not take the result: a full disk, say. The text says why."""


def safe(text: object) -> str:
    """Return `text` without anything a terminal would obey."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def one_line(text: object, limit: int = 200) -> str:
    """Return `text` on one line, cut after `limit` characters."""
    flat = " ".join(safe(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def result(*texts: str) -> None:
    """Print lines to stdout. Raises `NotPrinted`, or `BrokenPipeError` when the reader has seen enough."""
    try:
        for text in texts:
            sys.stdout.write(safe(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NotPrinted(error.strerror) from error


def words(*texts: str) -> None:
    """Print lines to stderr."""
    for text in texts:
        sys.stderr.write(safe(text) + "\n")
    sys.stderr.flush()


def show(*renderables: RenderableType) -> None:
    """Print tables, trees and styled texts to stdout; plain where there is no terminal."""
    if sys.stdout.isatty():
        Console(file=sys.stdout, markup=False, highlight=False, emoji=False).print(*renderables, sep="\n")
        return
    plain = io.StringIO()
    Console(file=plain, width=_PLAIN_WIDTH, markup=False, highlight=False, emoji=False).print(*renderables, sep="\n")
    result(*(line.rstrip() for line in plain.getvalue().splitlines()))


def json_line(data: Mapping[str, Any]) -> None:
    """Print one object on one line. ASCII only: any terminal and any locale can show it, and it obeys nothing."""
    result(json.dumps(data, ensure_ascii=True, separators=(",", ":")))


def json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one object per line."""
    for row in rows:
        json_line(row)
