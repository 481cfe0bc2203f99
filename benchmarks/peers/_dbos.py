"""DBOS: a workflow of three steps at once and one that needs them; run in the peers' environment.

As its documentation has it: asynchronous workflows and steps, `asyncio.gather` for steps at once, Postgres (SQLite is
called good for development only). Its SQLite file is put into write-ahead mode, which it does not do by itself. Other
sizes of its pools were tried and made no difference.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Awaitable, Callable

from dbos import DBOS, SetWorkflowID

from benchmarks.peers._load import KILOBYTE, join, obey


async def _leaf() -> str:
    return KILOBYTE


async def _joined(a: str, b: str, c: str) -> str:
    return join(a, b, c)


leaf: Callable[[], Awaitable[str]] = DBOS.step()(_leaf)
joined: Callable[[str, str, str], Awaitable[str]] = DBOS.step()(_joined)


async def _request(_text: str) -> str:
    a, b, c = await asyncio.gather(leaf(), leaf(), leaf())
    return await joined(a, b, c)


request: Callable[[str], Awaitable[str]] = DBOS.workflow()(_request)


async def _ask(name: str) -> str:
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
    await obey(_ask, "dbos", "sqlalchemy", "psycopg")
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
