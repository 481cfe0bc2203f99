"""Who may import whom: the table of docs/architecture.md, held."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from telemetry.source_check import problems

ROOT = Path(__file__).parents[1]

CODECS = {"persistence.append", "persistence.contract", "persistence.entry", "persistence.snapshot"}
"""The pure part of persistence: records and their bytes, no store."""

ALLOWED: dict[str, set[str]] = {
    "messages": set(),
    "supervision": set(),
    "telemetry": set(),
    "config": set(),
    "workflow": {"messages"},
    "agents": {"messages", "supervision.error_text"},
    "persistence": {"messages"},
    "planning": {"agents", "messages", "workflow.graph"},
    "synthesis": {"agents", "messages", "workflow.graph"},
    "actors": {"messages", "supervision", "agents"},
    "conversation": {"messages", "workflow", "supervision", "actors", *CODECS},
    "supervisor": {"messages", "workflow", "supervision", "actors", "conversation", *CODECS},
    "conversations": {"messages", "supervision", "actors", "conversation", "supervisor"},
    "router": {"messages", "actors", "conversation", "conversations"},
    "doors": {"messages", "supervision", "actors"},
    "gateway": {"messages", "router", "persistence", "telemetry"},
    "cli": {"config", "messages", "gateway", "telemetry"},
    "examples": {"agents"},
    "benchmarks": {"*"},
    "chaos": {"*"},
    "views": {"*"},
    "daemon": {"*"},
    "building": {"*"},
    "figures": {"*"},
    "burial": {"messages", "actors", "gateway", "persistence"},
    "housekeeping": {"actors", "config", "persistence"},
    "trials": {"actors", "persistence", "supervision"},
    "forked": set(),
    "demo": {"*"},
    "serving": {"*"},
    "checking": {"*"},
    "run": {"*"},
}
"""Package or top-level module -> what of ours it may import."""

DRIVERS = {
    "sqlite3": {"persistence/sqlite_", "benchmarks/", "supervision/errors.py", "examples/shop/"},
    "psycopg": {"persistence/postgres_", "chaos/scratch_postgres.py", "benchmarks/"},
    "redis": {"persistence/redis_", "gateway/redis_", "chaos/scratch_redis.py", "benchmarks/"},
    "msgpack": {"messages/wire.py"},
    "fastapi": {"gateway/"},
    "uvicorn": {"gateway/"},
    "typer": {"cli/", "run.py"},
    "pykka": {"actors/", "conversation/", "conversations.py", "supervisor.py", "router.py", "benchmarks/"},
}
"""Third-party or standard packages that only these files may import."""

PURE = ("workflow", "supervision")
IMPURE = {"threading", "time", "asyncio", "random", "socket", "subprocess", "os", "logging"}


def sources() -> list[Path]:
    tops = {name.partition(".")[0] for name in ALLOWED}
    files = [ROOT / f"{top}.py" for top in tops if (ROOT / f"{top}.py").exists()]
    for top in tops:
        files.extend(sorted((ROOT / top).rglob("*.py")))
    return sorted(files)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            if (ROOT / Path(*node.module.split("."))).is_dir():
                found.update(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")
    return found


def ours(name: str) -> bool:
    return name.partition(".")[0] in ALLOWED


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_imports_only_what_its_package_may(path):
    """A new edge between packages is a decision: change the table and docs/architecture.md together."""
    top = module_of(path).partition(".")[0]
    allowed = ALLOWED[top]
    for name in imports(path):
        target = name.partition(".")[0]
        if not ours(name) or target == top or "*" in allowed:
            continue
        permitted = target in allowed or any(name == a or name.startswith(f"{a}.") for a in allowed)
        parent_of_permitted = any(a.startswith(f"{name}.") for a in allowed)
        assert permitted or parent_of_permitted, f"{top} must not import {name}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_drivers_stay_behind_their_own_files(path):
    """A driver, a web framework or the wire format is known in one place."""
    here = str(path.relative_to(ROOT))
    for name in imports(path):
        homes = DRIVERS.get(name.partition(".")[0])
        if homes is not None:
            assert any(here.startswith(home) for home in homes), f"{here} imports {name}"


def test_the_pure_packages_know_no_clock_no_thread_and_no_chance():
    """What they need of the world comes in as data."""
    for top in PURE:
        for path in (ROOT / top).rglob("*.py"):
            used = {name.partition(".")[0] for name in imports(path)} & IMPURE
            allowed = {"asyncio", "socket"} if path.name == "errors.py" else set()  # exception types only
            assert used <= allowed, f"{path.name} imports {used}"


def test_packages_have_no_cycles():
    """The table itself is a plan that can be ordered."""
    graph = {top: {a.partition(".")[0] for a in allowed if a != "*"} - {top} for top, allowed in ALLOWED.items()}
    assert list(TopologicalSorter(graph).static_order())


def test_every_file_begins_by_saying_its_one_job():
    """The first line of a file is its docstring."""
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""'), f"{path.relative_to(ROOT)} does not begin with a docstring"


def test_every_log_event_is_in_the_catalogue():
    """A name or a field that nobody documented may not be logged."""
    assert problems(sources()) == []
