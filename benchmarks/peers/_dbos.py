"""DBOS: a workflow of three steps at once and one that needs them; run in the peers' environment.

As its documentation has it: asynchronous workflows and steps, `asyncio.gather` for steps at once, Postgres (SQLite is
called good for development only). Its SQLite file is put into write-ahead mode, which it does not do by itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys

from _load import KILOBYTE, join, obey
from dbos import DBOS, SetWorkflowID


@DBOS.step()
async def leaf() -> str:
    """Give a kilobyte."""
    return KILOBYTE


@DBOS.step()
async def joined(a: str, b: str, c: str) -> str:
    """Need three results."""
    return join(a, b, c)


@DBOS.workflow()
async def request(_text: str) -> str:
    """Be one request; its input and its result are durable too."""
    a, b, c = await asyncio.gather(leaf(), leaf(), leaf())
    return await joined(a, b, c)


async def ask(name: str) -> str:
    """Carry out one request."""
    with SetWorkflowID(name):
        return await request("hello")


async def _main(kind: str, where: str) -> None:
    if kind == "sqlite":
        connection = sqlite3.connect(where)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        where = f"sqlite:///{where}"
    DBOS(
        config={
            "name": "peers",
            "system_database_url": where,
            "run_admin_server": False,
            "log_level": "ERROR",
            "enable_otlp": False,
        }
    )
    DBOS.launch()
    await obey(ask, "dbos", "sqlalchemy", "psycopg")
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
