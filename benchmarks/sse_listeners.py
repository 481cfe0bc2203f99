"""How soon the last of a thousand listeners has an event: all on one conversation, or each on one of its own.

Run it as `python -m benchmarks.sse_listeners [--quick]`. A daemon in a process of its own; plain sockets in this one
read the streams, so that what is measured is mostly the daemon. One more reads nothing at all: it must harm nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._lab import percentile, report, spread
from gateway.client import DaemonClient

ROOT = Path(__file__).parents[1]
PLAN = {"answer": "hello"}
REPLY = b'"type":"reply.sent"'


class Crowd:
    """Listeners and what they have seen."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: list[float] = []
        self.bytes = 0
        self._wanted = 0
        self._all = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def join(self, conversation_id: str) -> None:
        """Add one; returns when its stream has begun."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        writer.write(_request(conversation_id))
        await reader.readuntil(b"retry:")
        self._tasks.append(asyncio.create_task(self._read(reader)))
        self._writers.append(writer)

    async def hear(self, wanted: int) -> None:
        """Wait until so many replies have been seen since the last time."""
        self._wanted = wanted
        if len(self.seen) < wanted:
            self._all.clear()
            async with asyncio.timeout(60):
                await self._all.wait()

    def leave(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while data := await reader.read(65_536):
            self.bytes += len(data)
            text = rest + data
            found = text.count(REPLY)
            rest = b"" if found else text[-len(REPLY) :]
            self.seen.extend([time.perf_counter()] * found)
            if len(self.seen) >= self._wanted:
                self._all.set()


def _request(conversation_id: str) -> bytes:
    path = f"/api/v1/conversations/{conversation_id}/events?from=now"
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()


def _deaf(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    found.connect(("127.0.0.1", port))
    found.sendall(_request("c0"))
    return found


async def _measure(url: str, pid: int, listeners: int, conversations: int, rounds: int) -> dict[str, Any]:
    port = int(url.rpartition(":")[2])
    crowd = Crowd(port)
    with DaemonClient(url) as client:
        for number in range(conversations):
            await asyncio.to_thread(client.send, f"c{number}", "begin", plan=PLAN, wait=10)
        began = time.perf_counter()
        for number in range(listeners):
            await crowd.join(f"c{number % conversations}")
        joined = time.perf_counter() - began
        deaf = _deaf(port)
        times: list[float] = []
        lasts: list[float] = []
        processor = _processor(pid)
        for number in range(rounds):
            crowd.seen.clear()
            began = time.perf_counter()
            await asyncio.to_thread(client.send, f"c{number % conversations}", "say", plan=PLAN)
            await crowd.hear(listeners // conversations)
            times.extend(moment - began for moment in crowd.seen)
            lasts.append(1_000 * (max(crowd.seen) - began))
        processor = _processor(pid) - processor
        deaf.close()
        crowd.leave()
    return {
        "listeners": listeners,
        "conversations": conversations,
        "repetitions": rounds,
        "joined/s": round(listeners / joined),
        "p50 ms": round(1_000 * percentile(times, 0.5), 1),
        "last ms": spread(lasts),
        "cpu ms/request": round(1_000 * processor / rounds, 1),
        "resident MB": round(_resident(pid) / 1e6, 1),
    }


def _processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(listeners: int, conversations: int, rounds: int) -> dict[str, Any]:
    """Return one line."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")},
            "ORCHESTRATOR_DATA_DIR": folder,
            "ORCHESTRATOR_HTTP_BIND": "127.0.0.1:0",
            "ORCHESTRATOR_LOG_LEVEL": "WARNING",
            "ORCHESTRATOR_AGENTS_FROM": "benchmarks._lab",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, str(ROOT / "run.py"), "serve"]
        with subprocess.Popen(  # noqa: S603  # this project's own program
            command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True
        ) as daemon:
            assert daemon.stderr is not None
            try:
                line = next(line for line in daemon.stderr if "listening on http" in line)
                url = "http://" + line.split("http://")[1].split()[0].rstrip('",')
                return asyncio.run(_measure(url, daemon.pid, listeners, conversations, rounds))
            finally:
                daemon.terminate()
                daemon.stderr.read()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 requests instead of 20, and 200 listeners")
    parser.add_argument("--listeners", type=int, help="so many instead")
    options = parser.parse_args()
    listeners, rounds = options.listeners or (200 if options.quick else 1_000), 3 if options.quick else 20
    report("sse_listeners", [measure(listeners, 1, rounds), measure(listeners, listeners, rounds)])


if __name__ == "__main__":
    main()
