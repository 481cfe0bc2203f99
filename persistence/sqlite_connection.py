"""How the SQLite file is connected to, and words for its errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from persistence.contract import StoreIncompatible, StoreUnavailable

_MEANING: Final = {
    "SQLITE_FULL": "there is no room left on its disk",
    "SQLITE_IOERR": "its disk fails, or is full, or a quota or limit of this process is reached",
    "SQLITE_BUSY": "another process holds it locked",
    "SQLITE_READONLY": "it may not be written",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_CORRUPT": "it is damaged",
}
"""What names of errors, by their beginnings, mean to a person."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the database, which must be there; a read-only connection cannot even be told to write."""
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, timeout=5.0, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON" if read_only else "PRAGMA foreign_keys = ON")
    return connection


def unavailable(error: sqlite3.Error, path: Path) -> StoreUnavailable:
    """Return a driver's error as the contract's, in words for whoever has to see to that file's disk."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    meaning = next((f"{words}; " for start, words in _MEANING.items() if name.startswith(start)), "")
    return StoreUnavailable(f"{path}: {meaning}{name}: {error}")


def cannot_open(error: sqlite3.Error, path: Path) -> StoreUnavailable | StoreIncompatible:
    """Return why a file cannot be opened; waiting helps against most things, but not against damage."""
    if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return StoreIncompatible(f"{path} is no SQLite database, or a damaged one ({error}); it is left as it is")
    return unavailable(error, path)
