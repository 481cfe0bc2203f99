"""One daemon as a child process: started, heard when it listens, killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos.boundaries import Kill
from chaos.judge import Life
from chaos.ledger import LIFE, PLACE

ROOT: Final = Path(__file__).parents[1]
_FOREIGN: Final = ("DATABASE_URL", "REDIS_URL")
"""Addresses that the daemon would take: the test's own place is the only one it may touch."""


class Victim:
    """A daemon that is going to be killed; `command` runs it."""

    def __init__(
        self, folder: Path, number: int, settings: Mapping[str, str], kill: Kill | None, command: Sequence[str]
    ) -> None:
        self.number = number
        self.kill = kill
        self.url: str | None = None
        self._heard = threading.Condition()
        self._over = False
        arguments = () if kill is None else _arguments(kill)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_") and k not in _FOREIGN}
        environment = {
            **kept,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            PLACE: str(folder / "ledger"),
            LIFE: str(number),
            **{f"ORCHESTRATOR_{name.upper()}": value for name, value in settings.items()},
        }
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            [*command, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._listener = threading.Thread(target=self._listen, args=(folder / "log",), daemon=True)
        self._listener.start()

    def listens(self, timeout: float) -> bool:
        """Wait until it listens or has ended; return which. Raises `TimeoutError`."""
        with self._heard:
            if not self._heard.wait_for(lambda: self.url is not None or self._over, timeout):
                raise TimeoutError(f"life {self.number} neither listens nor ends within {timeout:g} s")
            return self.url is not None

    def dies_within(self, seconds: float) -> bool:
        """Wait for its death; return whether it came."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, and wait until it is gone."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(30)

    def life(self, boundary: str) -> Life:
        """Return what is known of it; it has ended."""
        self._listener.join(5)
        return Life(self.number, boundary, time.time_ns() // 1_000_000, self._process.returncode)

    def _listen(self, log: Path) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as said, log.open("ab") as kept:
            kept.write(f"--- life {self.number}: {self.kill and self.kill.boundary}\n".encode())
            for line in said:
                kept.write(line)
                if match := re.search(rb"listening on (http://[\w.:]+)", line):
                    with self._heard:
                        self.url = match.group(1).decode()
                        self._heard.notify_all()
        with self._heard:
            self._over = True
            self._heard.notify_all()


def victim_command() -> list[str]:
    """Return what starts the real daemon on a store that kills."""
    return [sys.executable, "-m", "chaos.victim"]


def _arguments(kill: Kill) -> list[str]:
    return [kill.boundary.group, kill.boundary.moment, str(kill.occurrence), str(kill.chance)]
