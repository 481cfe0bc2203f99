"""LangGraph: three nodes from the start and one that joins them, `durability="sync"`; run in the peers' environment.

As its documentation has it: the asynchronous checkpointers, opened by their own constructors, types in checkpoints
restricted, a thread id for each request. On Postgres one connection: a pool was tried and slower, as the checkpointer
lets one coroutine at a time use it; its pipeline was slower too.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, TypedDict

os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"

from langgraph.graph import END, START, StateGraph

from benchmarks.peers._load import KILOBYTE, join, obey


class State(TypedDict, total=False):
    """A result for each node."""

    text: str
    a: str
    b: str
    c: str
    d: str


async def _a(_state: State) -> State:
    return {"a": KILOBYTE}


async def _b(_state: State) -> State:
    return {"b": KILOBYTE}


async def _c(_state: State) -> State:
    return {"c": KILOBYTE}


async def _d(state: State) -> State:
    return {"d": join(state["a"], state["b"], state["c"])}


def _graph(checkpointer: Any) -> Any:
    builder: Any = StateGraph(State)
    for name, node in (("node_a", _a), ("node_b", _b), ("node_c", _c)):
        builder.add_node(name, node)
        builder.add_edge(START, name)
    builder.add_node("node_d", _d)
    builder.add_edge(["node_a", "node_b", "node_c"], "node_d")
    builder.add_edge("node_d", END)
    return builder.compile(checkpointer=checkpointer)


async def _run(checkpointer: Any, package: str) -> None:
    await checkpointer.setup()
    graph = _graph(checkpointer)

    async def ask(name: str) -> str:
        config = {"configurable": {"thread_id": name}}
        state = await graph.ainvoke({"text": "hello"}, config, durability="sync")
        return str(state["d"])

    await obey(ask, "langgraph", "langgraph-checkpoint", package)


async def _on_sqlite(path: str) -> None:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415  # one of the two is needed

    async with AsyncSqliteSaver.from_conn_string(path) as checkpointer:
        await _run(checkpointer, "langgraph-checkpoint-sqlite")


async def _on_postgres(dsn: str) -> None:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver  # noqa: PLC0415  # as above

    async with AsyncPostgresSaver.from_conn_string(dsn) as checkpointer:
        await _run(checkpointer, "langgraph-checkpoint-postgres")


if __name__ == "__main__":
    kind, where = sys.argv[1:]
    asyncio.run(_on_sqlite(where) if kind == "sqlite" else _on_postgres(where))
