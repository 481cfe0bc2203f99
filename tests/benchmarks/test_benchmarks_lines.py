"""Every benchmark can be run and says what programs can read. No timing is asserted."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_running import SERVER

from benchmarks import (
    _callers,
    _stick,
    actor_runtime,
    doors,
    execution,
    requests,
    store_commit,
    supervision,
    waiting_agents,
)
from benchmarks._lab import redis_server, report, scratch, spread
from benchmarks.peers import _load, durable_requests
from persistence.open_store import create_store

FOLDER = Path(_callers.__file__).parent
needs_redis = pytest.mark.skipif(SERVER is None, reason="there is no redis-server")
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    """A daemon in this process calms the collector; the next tests have it as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("name", [*NAMES, "peers.durable_requests"])
def test_each_file_is_a_program_with_a_short_run(name, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert "--quick" in capsys.readouterr().out


def _commits() -> list[dict[str, Any]]:
    with scratch("sqlite") as place:
        store = create_store("sqlite", data_dir=place.folder)
        store.open("benchmark")
        disk = _stick.disk(place)
        try:
            return store_commit.measure(store, disk, 4, 0.001, 1)
        finally:
            store.close()
            disk.close()


SMALLEST: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "requests": lambda: requests.measure("sqlite", (2,), 0.001, 1),
    "waiting_agents": lambda: waiting_agents.measure("sqlite", (2,), 1),
    "supervision": lambda: [supervision.measure(3, 5, 1)],
    "execution": lambda: [execution.measure("async", 5, 5, 1)],
    "store_commit": _commits,
    "actor_runtime": lambda: [actor_runtime._compare("asks per second", 1, quick=True)],
}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_run_prints_lines_for_programs(name, capsys):
    report(name, SMALLEST[name]())
    _check_lines(name, capsys.readouterr().out)


@needs_redis
def test_requests_are_made_as_users_make_them_through_both_doors(capsys):
    rows = doors.measure("sqlite", (2,), doors.DOORS, 0.001, 1)
    assert [row["who"] for row in rows] == ["by hand", "http", "stream"]
    report("doors", rows)
    _check_lines("doors", capsys.readouterr().out)


def _check_lines(name: str, printed: str) -> None:
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert lines
    for line in lines:
        assert line["benchmark"] == name
        assert line["repetitions"] == 1
        assert line["processors"] > 0
        assert line["versions"]["python"]


def test_a_request_that_is_not_completed_ends_the_load_program_with_what_was_answered(tmp_path):
    async def serve() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = b'{"code":"draining"}'
            writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with _callers.LoadProgram() as load:
                order = _callers.Order("http", str(port), 1, 1, "c", {"text": "hello"})
                with pytest.raises(RuntimeError, match=r"1 of 1 over http failed.*draining"):
                    await asyncio.to_thread(load.run, order)

    asyncio.run(serve())


def test_replies_are_found_wherever_what_was_pushed_is_cut():
    bodies = [b'{"type":"node.started"}', b'{"type":"reply.sent","text":"\r\n*4"}']
    words = [(b"pmessage", b"orch:events:*", b"orch:events:c%d" % number, body) for number, body in enumerate(bodies)]
    data = b"".join(_callers._command(*each) for each in words)
    for cut in range(len(data)):
        rest, found = b"", []
        for part in (data[:cut], data[cut:]):
            rest += part
            taken = 0
            for conversation_id, body, taken in _callers._pushed(rest):  # noqa: B007  # the last end is needed
                found.append((conversation_id, body))
            rest = rest[taken:]
        assert found == [("c0", bodies[0]), ("c1", bodies[1])]


def test_a_spread_says_median_and_range_in_digits_that_fit():
    assert spread([1_200.4, 1_000.0, 1_500.0]) == "1,200 (1,000-1,500)"
    assert spread([0.123]) == "0.12 (0.12-0.12)"


def test_the_peers_are_optional_and_missing_ones_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(durable_requests, "ENVIRONMENT", tmp_path / "none")
    monkeypatch.setattr(sys, "argv", ["durable_requests", "--quick"])
    with pytest.raises(SystemExit, match="make bench-peers"):
        durable_requests.main()


def test_a_peer_that_answers_something_else_is_not_timed():
    async def good(_name: str) -> str:
        return _load.join(*[_load.KILOBYTE] * 3)

    async def wrong(_name: str) -> str:
        return "?"

    told = asyncio.run(_load._carry_out(good, "r", 5, 2))
    assert len(told["latencies"]) == 5
    with pytest.raises(RuntimeError, match="answered"):
        asyncio.run(_load._carry_out(wrong, "r", 5, 2))


@needs_redis
def test_the_server_for_the_streams_synchronises_every_write(tmp_path):
    with redis_server(tmp_path) as url:
        import redis

        with redis.Redis.from_url(url) as client:
            assert client.config_get("appendfsync")["appendfsync"] == "always"
