"""The ledger: one file to which agents and the store's wrapper append lines that outlive the daemon.

Lines of all processes stand in the order in which they were written: a `start` below the `recorded` of the same node
is finished work done again, whatever any clock says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

PLACE: Final = "CHAOS_LEDGER"
"""Environment variable: path of the file."""
LIFE: Final = "CHAOS_LIFE"
"""Environment variable: number of this daemon's life, from 0."""

What = Literal["start", "finish", "recorded", "killed"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: an agent started or finished, a result became durable, a daemon killed itself."""

    what: What
    life: int
    conversation: str = ""
    request: str = ""
    node: str = ""
    attempt: int = 0
    key: str = ""
    """Idempotency key of the call; for `killed`, the boundary."""


def note(  # the fields of a line
    what: What, conversation: str = "", request: str = "", node: str = "", attempt: int = 0, key: str = ""
) -> None:
    """Append one line, whole or not at all, and synchronise it to disk."""
    line = Line(what, int(os.environ[LIFE]), conversation, request, node, attempt, key)
    handle = os.open(os.environ[PLACE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, json.dumps(asdict(line)).encode() + b"\n")
        os.fdatasync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Iterator[Line]:
    """Yield all lines, oldest first."""
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            yield Line(**json.loads(text))
