"""A load program in a process of its own: callers over HTTP or over the Redis streams, as many at once as is asked for.

It reads orders as JSON lines and answers each with a JSON line. It speaks both protocols by hand, so that the processor
it takes from the daemon beside it is small; what it sends and reads is what any client would.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0
"""Seconds until a run without an end is given up."""
_PUSHED = re.compile(rb"\*4\r\n\$8\r\npmessage\r\n\$\d+\r\n[^\r]+\r\n\$\d+\r\n[^\r]+:([^\r:]+)\r\n\$(\d+)\r\n")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_REPLY = b'{"type":"reply.sent"'


@dataclass
class Order:
    """What to send: `total` requests, `at_once` of them at any time, each in a conversation of its own."""

    door: str
    """`http` or `stream`."""
    where: str
    """The daemon's port, or the path of Redis' socket."""
    total: int
    at_once: int
    prefix: str
    message: dict[str, Any]


@dataclass
class Told:
    """What a run took."""

    seconds: float
    latencies: list[float]
    failed: list[str]
    """What the requests that were not completed were answered."""


class LoadProgram:
    """The other process, seen from the benchmark. Raises `RuntimeError` with what it said when it failed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._callers"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def run(self, order: Order) -> Told:
        """Have an order carried out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(vars(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load program ended with {self._process.wait(10)}")
        told = Told(**json.loads(line))
        if told.failed:
            raise RuntimeError(f"{len(told.failed)} of {order.total} over {order.door} failed: {told.failed[0]}")
        return told


class _Door(Protocol):
    async def ask(self, conversation_id: str, caller: int) -> bytes:
        """Return the answer when the reply is there."""

    async def close(self) -> None: ...


@dataclass
class _Http:
    """A connection for each caller, kept open; a message is posted with `wait`, its answer is the reply."""

    connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    body: bytes

    @classmethod
    async def open(cls, order: Order) -> Self:
        made = [await asyncio.open_connection("127.0.0.1", int(order.where)) for _ in range(order.at_once)]
        return cls(made, json.dumps(order.message).encode())

    async def ask(self, conversation_id: str, caller: int) -> bytes:
        reader, writer = self.connections[caller]
        head = (
            f"POST /api/v1/conversations/{conversation_id}/messages?wait=60 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        writer.write(head.encode() + self.body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        assert length is not None, answer
        return await reader.readexactly(int(length[1]))

    async def close(self) -> None:
        for _, writer in self.connections:
            writer.close()


@dataclass
class _Stream:
    """One connection adds to the inbox, one hears the events of all conversations and finds the replies among them."""

    writer: asyncio.StreamWriter
    hearing: asyncio.StreamWriter
    body: dict[str, Any]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    waiting: dict[str, asyncio.Future[bytes]] = field(default_factory=dict)

    @classmethod
    async def open(cls, order: Order) -> Self:
        hears, hearing = await asyncio.open_unix_connection(order.where, limit=1 << 22)
        hearing.write(_command(b"PSUBSCRIBE", b"orch:events:*"))
        await hears.readuntil(b":1\r\n")
        answers, writer = await asyncio.open_unix_connection(order.where)
        made = cls(writer, hearing, order.message)
        made.tasks = [asyncio.create_task(made._hear(hears)), asyncio.create_task(made._check(answers))]
        for task in made.tasks:
            task.add_done_callback(made._give_up)
        return made

    async def ask(self, conversation_id: str, caller: int) -> bytes:  # noqa: ARG002  # all share the connections
        message = {"type": "user_message", "conversation_id": conversation_id, **self.body}
        self.waiting[conversation_id] = reply = asyncio.get_running_loop().create_future()
        self.writer.write(_command(b"XADD", b"orch:inbox", b"*", b"message", json.dumps(message).encode()))
        answer: bytes = await reply
        return answer

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.writer.close()
        self.hearing.close()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while data := await reader.read(1 << 18):
            rest += data
            taken = 0
            for conversation_id, body, taken in _pushed(rest):  # noqa: B007  # where the last one ends is needed below
                if body.startswith(_REPLY) and (reply := self.waiting.pop(conversation_id, None)) is not None:
                    reply.set_result(body)
            rest = rest[taken:]
        raise ConnectionError("Redis closed the connection")

    def _give_up(self, task: asyncio.Task[None]) -> None:
        """Let nobody wait for what cannot come any more."""
        if not task.cancelled() and (error := task.exception()) is not None:
            for reply in self.waiting.values():
                reply.set_exception(error)

    async def _check(self, reader: asyncio.StreamReader) -> None:
        """Read what XADD printed: an error there would be a request without an end."""
        async for line in reader:
            if line.startswith(b"-"):
                raise RuntimeError(line.decode())


def _pushed(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Give conversation, event and end of each whole message that was pushed."""
    at = 0
    while (head := _PUSHED.match(data, at)) is not None:
        at = head.end() + int(head[2]) + 2
        if at > len(data):
            return
        yield head[1].decode(), data[head.end() : at - 2], at


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


async def carry_out(order: Order) -> Told:
    """Send everything; return when every reply is there."""
    door: _Door = await (_Http if order.door == "http" else _Stream).open(order)
    numbers = iter(range(order.total))
    latencies: list[float] = []
    failed: list[str] = []

    async def caller(place: int) -> None:
        for number in numbers:
            began = time.perf_counter()
            answer = await door.ask(f"{order.prefix}{number}", place)
            latencies.append(time.perf_counter() - began)
            if json.loads(answer).get("status") != "completed":
                failed.append(answer.decode())

    began = time.perf_counter()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(caller(place) for place in range(order.at_once)))
    seconds = time.perf_counter() - began
    await door.close()
    return Told(seconds, latencies, failed)


def main() -> None:
    """Carry out one order after the other."""
    for line in sys.stdin:
        told = asyncio.run(carry_out(Order(**json.loads(line))))
        print(json.dumps(vars(told)), flush=True)


if __name__ == "__main__":
    main()
