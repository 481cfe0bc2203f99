"""The store that the configuration names; a driver is imported only when its store is used."""

from __future__ import annotations

from pathlib import Path

from persistence.contract import Store

KINDS = ("sqlite", "postgres", "redis", "memory")


class UnknownStore(ValueError):
    """There is no store of that kind."""


def create_store(
    kind: str,
    *,
    data_dir: Path,
    redis_url: str | None = None,
    redis_prefix: str = "orch",
    dsn: str | None = None,
    lease_ttl: float = 10.0,
) -> Store:
    """Return a store that is not open; `lease_ttl` in seconds. Raises `UnknownStore`; `ValueError` for no address."""
    if kind == "sqlite":
        from persistence.sqlite_store import SqliteStore  # noqa: PLC0415  # a driver is loaded only where it is used

        return SqliteStore(data_dir / "orchestrator.db")
    if kind == "postgres":
        from persistence.postgres_store import PostgresStore  # noqa: PLC0415  # as above

        if dsn is None:
            raise ValueError("the postgres store needs a postgres_dsn")
        return PostgresStore(dsn, lease_ttl=lease_ttl)
    if kind == "redis":
        from persistence.redis_store import RedisStore  # noqa: PLC0415  # as above

        if redis_url is None:
            raise ValueError("the redis store needs a redis_url")
        return RedisStore(redis_url, prefix=redis_prefix, lease_ttl=lease_ttl)
    if kind == "memory":
        from persistence.memory_store import MemoryStore  # noqa: PLC0415  # as above

        return MemoryStore()
    raise UnknownStore(f"state_storage is {kind!r}; this build has {', '.join(KINDS)}")
