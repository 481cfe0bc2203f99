"""Scratch stores of every kind: made for one run, gone after it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

KINDS = ("sqlite", "postgres", "redis")


class NoScratch(Exception):
    """There is nowhere to make a scratch store of that kind; the text says what would help."""


class Places(Protocol):
    """Makes empty stores on one server."""

    def place(self) -> dict[str, str]:
        """Return the settings of a new, empty store."""

    def close(self) -> None:
        """Remove all of them, and the server if it was started for them."""


class Scratch:
    """A folder for ledger and logs, and as many empty stores as are asked for."""

    def __init__(self, folder: Path, places: Places) -> None:
        self.folder = folder
        self.keep = False
        """Set to leave the folder there for a closer look."""
        self._places = places

    def place(self) -> dict[str, str]:
        """Return the settings of a new, empty store."""
        return {"data_dir": str(self.folder), **self._places.place()}


@contextmanager
def scratch(kind: str) -> Iterator[Scratch]:
    """Make what a run needs. Raises `NoScratch`.

    The folder stays when the block raises or sets `keep`; stores on a server are dropped in any case.
    """
    # Short, because a socket's path may have about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    kept = False
    try:
        places = _places(kind, folder)
        try:
            made = Scratch(folder, places)
            kept = True
            yield made
            kept = made.keep
        finally:
            places.close()
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


class _SqlitePlaces:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def place(self) -> dict[str, str]:
        self._made += 1
        return {"state_storage": "sqlite", "data_dir": str(self._folder / f"store{self._made}")}

    def close(self) -> None:
        """Leave the files to the folder."""


def _places(kind: str, folder: Path) -> Places:
    if kind == "postgres":
        from chaos.scratch_postgres import PostgresPlaces  # noqa: PLC0415  # a driver is loaded only where it is used

        return PostgresPlaces(folder)
    if kind == "redis":
        from chaos.scratch_redis import RedisPlaces  # noqa: PLC0415  # as above

        return RedisPlaces(folder)
    return _SqlitePlaces(folder)
