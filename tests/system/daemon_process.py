"""A real daemon in a real process, for tests that kill it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ledger_agents import LET_GO, LISTENING

from gateway.client import DaemonClient, Unreachable

ROOT = Path(__file__).parents[2]
START = 20.0
"""Seconds a daemon may take to listen, on a busy machine."""


class DaemonProcess:
    """Start it, talk to it, kill it, start it again on the same store and port."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.ledger = directory / "ledger"
        self.log = directory / "log"
        self._settings = settings
        self.program = [str(ROOT / "run.py"), "serve"]
        """What the interpreter is told to run."""
        self.environment: dict[str, str] = {}
        """Variables that go before all others."""
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._said: list[str] = []
        self._silent = False
        """It has said its last: whatever it said has been heard."""
        self._heard = threading.Condition()

    def start(self) -> DaemonProcess:
        """Start and wait until it listens."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")}
        environment |= {
            "ORCHESTRATOR_DATA_DIR": str(self.directory),
            "ORCHESTRATOR_HTTP_BIND": f"127.0.0.1:{self._port}",
            "ORCHESTRATOR_AGENTS_FROM": "ledger_agents",
            "ORCHESTRATOR_LOG_LEVEL": "WARNING",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
            "PYTHONUNBUFFERED": "1",
            "LEDGER": str(self.ledger),
            **{f"ORCHESTRATOR_{key.upper()}": value for key, value in self._settings.items()},
            **self.environment,
        }
        self._said.clear()
        self._silent = False
        self._listening.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, *self.program],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        line = self.wait_for(r"listening on http://127\.0\.0\.1:(\d+)")
        self._port = int(line.group(1))
        self._listening.touch()
        return self

    @property
    def _listening(self) -> Path:
        return self.ledger.with_name(LISTENING)

    def let_go(self) -> None:
        """Let agents end that are held."""
        self.ledger.with_name(LET_GO).touch()

    def wait_for(self, pattern: str, timeout: float = START) -> re.Match[str]:
        """Return the first match in what the daemon says on stderr."""
        deadline = time.monotonic() + timeout
        with self._heard:
            seen = 0
            while True:
                for line in self._said[seen:]:
                    if match := re.search(pattern, line):
                        return match
                seen = len(self._said)
                left = deadline - time.monotonic()
                if left <= 0 or (self._silent and self.ended):
                    raise AssertionError(f"{pattern!r} was not said:\n" + "".join(self._said[-30:]))
                self._heard.wait(min(left, 0.5))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def client(self) -> DaemonClient:
        return DaemonClient(self.url)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self, timeout: float = 15.0) -> int:
        """Ask it to end; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout)

    def wait(self, timeout: float = 15.0) -> int:
        assert self._process is not None
        return self._process.wait(timeout)

    def close(self) -> None:
        if not self.ended:
            self.kill()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr, self.log.open("ab", buffering=0) as log:
            for line in process.stderr:
                log.write(line)
                with self._heard:
                    if self._process is process:  # else these are the last words of the one before
                        self._said.append(line.decode("utf-8", "replace"))
                        self._heard.notify_all()
        with self._heard:
            if self._process is process:
                self._silent = True
                self._heard.notify_all()


def eventually(look: Any, what: str, timeout: float = 30.0) -> Any:
    """Return the first true answer of `look()`; a daemon that is away for the moment counts as not yet."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while True:
        try:
            if answer := look():
                return answer
        except Unreachable:
            answer = None
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what}")
        pause.wait(0.02)


def node(node_id: str, agent: str = "work", after: list[str] | None = None, **inputs: Any) -> dict[str, Any]:
    return {"id": node_id, "agent": agent, "after": after or [], "inputs": inputs}


def diamond(agent: str = "work", seconds: float = 0.05) -> dict[str, Any]:
    """Three independent nodes and one that needs all of them."""
    first = [node(name, agent, seconds=seconds) for name in "abc"]
    last = {**node("d", agent, after=["b", "c"], seconds=seconds), "inputs": {"value": {"$from": "a.value"}}}
    return {"nodes": [*first, last]}


def pretty(value: Any) -> str:
    return json.dumps(value, indent=1)
