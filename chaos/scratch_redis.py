"""Scratch prefixes on a Redis: the configured one, else a server of its own in the run's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from chaos.scratch import NoScratch

_NOWHERE = (
    "no Redis: set ORCHESTRATOR_REDIS_URL (keys under a prefix of their own are deleted afterwards), "
    "or put a redis-server on PATH, for a server of its own"
)
_START = 15.0


class RedisPlaces:
    """One prefix for each store."""

    def __init__(self, folder: Path) -> None:
        self._made: list[str] = []
        process = program = None
        url = os.environ.get("ORCHESTRATOR_REDIS_URL")
        if url is None:
            beside = Path(sys.executable).parent / "redis-server"
            program = str(beside) if beside.exists() else shutil.which("redis-server")
            if program is None:
                raise NoScratch(_NOWHERE)
            process, url = _start(program, folder)
        self._process = process
        self._url = url
        self._client: Any = Redis.from_url(url, socket_timeout=10)
        deadline = time.monotonic() + _START
        while not self._answers():
            if self._process is None or time.monotonic() > deadline:
                self.close()
                who = "that ORCHESTRATOR_REDIS_URL names" if process is None else f"started as {program}"
                raise NoScratch(f"the Redis {who} does not answer")
            Event().wait(0.02)

    def place(self) -> dict[str, str]:
        """Invent a prefix."""
        self._made.append(f"chaos-{uuid.uuid4().hex}")
        return {"state_storage": "redis", "redis_url": self._url, "redis_prefix": self._made[-1]}

    def close(self) -> None:
        """Delete the keys, stop the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        else:
            for prefix in self._made:
                for key in self._client.scan_iter(match=f"*{prefix}*", count=1000):
                    self._client.unlink(key)
        self._client.close()

    def _answers(self) -> bool:
        with suppress(RedisError, OSError):
            return bool(self._client.ping())
        return False


def _start(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    socket = folder / "redis.sock"
    options = ["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    process = subprocess.Popen(  # noqa: S603  # found beside this interpreter or on PATH
        [program, *options, "--unixsocket", str(socket), "--dir", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return process, f"unix://{socket}"
