"""A real redis-server for the tests of the Redis door: killed, frozen, restarted, asked by redis-cli."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError


def _program(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


SERVER = _program("redis-server")
CLI = _program("redis-cli")


class RedisServer:
    """On a socket in a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[Any] = []

    def start(self) -> None:
        """Return when it answers, its data loaded."""
        command = [str(SERVER), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [*command, "--save", "", *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, "the server answers")

    def _answers(self) -> bool:
        with contextlib.closing(self.client()) as client:
            try:
                return bool(client.ping())
            except AuthenticationError:
                return True
            except (RedisError, OSError):
                return False

    def client(self, **options: Any) -> Any:
        self._clients.append(Redis(unix_socket_path=str(self.socket), socket_timeout=5, **options))
        return self._clients[-1]

    def cli(self, *words: str, body: bytes | None = None) -> str:
        """Ask through redis-cli; `body` becomes the last argument, byte by byte."""
        assert CLI is not None
        command = [CLI, "-s", str(self.socket), *(["-x"] if body is not None else []), *words]
        return subprocess.run(command, input=body, capture_output=True, check=True, timeout=10).stdout.decode().strip()

    def kill(self) -> None:
        """End it at once, by signal 9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.kill()


def until(condition: Callable[[], Any], what: str = "", seconds: float = 10.0) -> Any:
    """Wait for something another thread or process does; return the first true answer."""
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"it did not happen in time: {what}"
        waiting.wait(0.01)
    return answer


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    # A socket's path may have about 100 characters: the test's own folder is too deep.
    with tempfile.TemporaryDirectory(prefix="rd") as folder:
        server = RedisServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.close()
