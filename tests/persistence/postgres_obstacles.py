"""What can get in the way of a Postgres store: frozen processes, a full disk, other settings, a cut wire."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server
from psycopg import conninfo

from persistence.contract import Committed, StoreUnavailable
from persistence.postgres_store import PostgresStore


def backend(store: PostgresStore) -> int:
    assert store._writer is not None
    return int(store._writer.info.backend_pid)


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # a worker of the server's own comes and goes
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def in_time(seconds: float, work: Callable[[], Any], match: str | None = None) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=match):
        work()
    assert time.monotonic() - began < seconds


def taken(store: PostgresStore, batch: list[Any], rows: list[Any]) -> bool:
    try:
        return all(isinstance(outcome, Committed) for outcome in store.commit(batch, rows))
    except StoreUnavailable:
        return False


@contextlib.contextmanager
def configured(server: Server, setting: str, value: str) -> Iterator[None]:
    """Change the server's configuration, as its administrator does."""
    server.run(f"ALTER SYSTEM SET {setting} = {value}")
    server.run("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        writable = server.dsn(options="-c default_transaction_read_only=off")
        server.run(f"ALTER SYSTEM RESET {setting}", writable)
        server.run("SELECT pg_reload_conf()", writable)


@contextlib.contextmanager
def small_disk(server: Server) -> Iterator[tuple[Path, str]]:
    """Give a database on a file system of its own, of 24 MB; only where this user may mount one."""
    with tempfile.TemporaryDirectory(prefix="pgdisk", dir="/tmp") as place:
        folder = Path(place)
        owner = Path(str(server._server.pgdata)).stat()
        options = f"size=24m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
        folder.chmod(0o755)
        (folder / "disk").mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder / "disk")], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("file systems cannot be mounted here")
        name = f"small_{os.getpid()}"
        try:
            server.run(f"CREATE TABLESPACE {name} LOCATION '{folder}/disk'")
            server.run(f"CREATE DATABASE {name} TABLESPACE {name}")
            try:
                yield folder / "disk", server.dsn(name)
            finally:
                server.run(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            server.run(f"DROP TABLESPACE IF EXISTS {name}")
            subprocess.run(["umount", str(folder / "disk")], check=True)


class Wire:
    """A socket before the server's that forwards, and cuts a connection instead of forwarding a certain answer.

    `cut_after`: what comes up to the end of that answer is forwarded still.
    """

    def __init__(self, server: str, folder: Path) -> None:
        self.cut_at: bytes | None = None
        self.cut_after = False
        self.cuts = 0
        self.dsn = ""
        self._server = server
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._open += [client, server]
                for pair in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and self.cut_at is not None and self.cut_at in data:
                    if self.cut_after:
                        target.sendall(data[: data.index(self.cut_at) + len(self.cut_at)])
                    self.cut_at = None
                    self.cuts += 1
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def proxy(dsn: str) -> Iterator[Wire]:
    options = conninfo.conninfo_to_dict(dsn)
    with tempfile.TemporaryDirectory(prefix="pgwire", dir="/tmp") as folder:
        wire = Wire(f"{options['host']}/.s.PGSQL.{options.get('port', 5432)}", Path(folder))
        wire.dsn = conninfo.make_conninfo(dsn, host=folder, port="5432")
        try:
            yield wire
        finally:
            wire.close()
