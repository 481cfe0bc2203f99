"""The store that the configuration names; a driver is imported only when its store is used."""

from __future__ import annotations

from pathlib import Path

from persistence.contract import Store

KINDS = ("sqlite", "memory")


class UnknownStore(ValueError):
    """There is no store of that kind."""


def create_store(kind: str, *, data_dir: Path) -> Store:
    """Return a store that is not open yet. Raises `UnknownStore`."""
    if kind == "sqlite":
        from persistence.sqlite_store import SqliteStore  # noqa: PLC0415  # a driver is loaded only where it is used

        return SqliteStore(data_dir / "orchestrator.db")
    if kind == "memory":
        from persistence.memory_store import MemoryStore  # noqa: PLC0415  # as above

        return MemoryStore()
    raise UnknownStore(f"state_storage is {kind!r}; this build has {', '.join(KINDS)}")
