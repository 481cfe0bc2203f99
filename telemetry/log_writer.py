"""Takes log entries from any thread into a bounded queue; one thread renders and writes them.

A log call never waits and never raises: what the queue cannot hold, or what nobody reads, is counted and said later.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from queue import SimpleQueue
from typing import Any, Final, Protocol, TextIO

_BATCH: Final = 256
"""Entries rendered before they are written together."""
_GATHERING: Final = 0.01
"""Seconds in which entries gather after the first one."""
_CHUNK: Final = 4_096
"""Bytes (PIPE_BUF) that a pipe takes without blocking once it says it is writable."""
_PATIENCE_MS: Final = 500
"""How long a reader may be slow before its lines are dropped; after that it is asked without waiting."""


class Entries(Protocol):
    """What becomes of the entries, in the writer's thread."""

    def render(self, item: Any) -> list[str]:
        """Return the item's lines without their ends."""

    def lost(self, count: int, reason: str) -> str:
        """Return the line that says so many lines were lost."""

    def left_out(self, *, last: bool) -> list[str]:
        """Return the lines that say what was left out because there was too much of it; `last`: at the end."""

    def batch_done(self) -> None:
        """Do what is done once per batch."""


class LogWriter:
    """One queue, one thread, one output."""

    def __init__(self, entries: Entries, stream: TextIO | None, *, limit: int = 10_000) -> None:
        self._entries = entries
        self._output = _output(stream)
        self._limit = limit
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._said_dropped = 0
        self._said_failed = 0
        self.dropped = 0
        """Entries refused because the queue was full or closed."""
        self.failed = 0
        """Lines that could not be written."""
        self.unreadable = 0
        """Entries whose rendering raised."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, item: Any, entries: int = 1) -> bool:
        """Take an item, or count its entries as dropped. The bound is kept to within the number of threads that log."""
        if self._queue.qsize() >= self._limit or self._closed:
            with self._lock:
                self.dropped += entries
            return False
        self._queue.put(item)
        return True

    @property
    def depth(self) -> int:
        """Items waiting."""
        return self._queue.qsize()

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until everything put so far is written or given up; False when that takes longer."""
        mark = threading.Event()
        self._queue.put(mark)
        return mark.wait(timeout) if self._thread.is_alive() else False

    def close(self, timeout: float = 2.0) -> None:
        """Write what is waiting, within `timeout` seconds, and end. Safe to call twice."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._queue.put(None)
        self._thread.join(timeout)
        if first and not self._thread.is_alive():
            self._output.close()

    # The thread

    def _run(self) -> None:
        queue = self._queue
        going = True
        while going:
            batch = [queue.get()]
            # Woken by each entry alone this thread would take the interpreter away from those that log, each time.
            time.sleep(_GATHERING)
            batch.extend(queue.get() for _ in range(min(queue.qsize(), _BATCH - 1)))
            going = self._handle(batch)

    def _handle(self, batch: list[Any]) -> bool:
        lines: list[str] = []
        marks: list[threading.Event] = []
        going = True
        for item in batch:
            if item is None:
                going = False
            elif isinstance(item, threading.Event):
                marks.append(item)
            else:
                self._render(item, lines)
        if self.dropped > self._said_dropped:
            lost, self._said_dropped = self.dropped - self._said_dropped, self.dropped
            lines.append(self._entries.lost(lost, "queue_full"))
        with contextlib.suppress(Exception):  # as in `_render`: it must not end the log
            lines.extend(self._entries.left_out(last=not going))
        self._write(lines)
        self._entries.batch_done()
        for mark in marks:
            mark.set()
        return going

    def _render(self, item: Any, lines: list[str]) -> None:
        try:
            lines.extend(self._entries.render(item))
        except Exception:  # noqa: BLE001  # an entry that cannot be rendered must not end the log; it is counted
            self.unreadable += 1

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        unsaid = self.failed - self._said_failed
        if unsaid:
            lines.insert(0, self._entries.lost(unsaid, "not_written"))
        if self._output.write("".join(f"{line}\n" for line in lines)):
            self._said_failed += unsaid
        else:
            self.failed += len(lines) - bool(unsaid)


class _Output(Protocol):
    def write(self, text: str) -> bool:
        """Write all of it; False when that failed. Never raises, never waits for long."""

    def close(self) -> None: ...


def _output(stream: TextIO | None) -> _Output:
    try:
        return _Descriptor(os.dup(stream.fileno())) if stream is not None else _Nowhere()
    except (OSError, ValueError, AttributeError):
        return _Nowhere() if stream is None else _Stream(stream)


class _Descriptor:
    """Writes past Python's buffers, whose lock a thread must not hold when the interpreter ends.

    The descriptor is our own copy: if somebody closed number 2, the next file opened would get it, and our lines.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._patience = _PATIENCE_MS
        self._torn = False

    def write(self, text: str) -> bool:
        data = (b"\n" if self._torn else b"") + text.encode("utf-8", "replace")
        sent = 0
        deadline = time.monotonic() + self._patience / 1_000
        try:
            while sent < len(data):
                wait = max(0, int((deadline - time.monotonic()) * 1_000)) if self._patience else 0
                if not self._poll.poll(wait):
                    break
                sent += self._send(data[sent : sent + _CHUNK])
                deadline = time.monotonic() + self._patience / 1_000
        except OSError:  # nobody reads it any more, or the disk is full: work goes on, the lines are counted
            self._patience = 0
        whole = sent == len(data)
        self._torn = (self._torn and not sent) or (bool(sent) and data[sent - 1 : sent] != b"\n")
        self._patience = _PATIENCE_MS if whole else 0
        return whole

    def _send(self, chunk: bytes) -> int:
        try:
            return os.write(self._fd, chunk)
        except BlockingIOError:  # a non-blocking descriptor with less room than it promised
            return 0

    def close(self) -> None:
        os.close(self._fd)


class _Stream:
    """A stream without a descriptor: a test's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> bool:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Nowhere:
    """There is no stderr: every line counts as not written."""

    def write(self, text: str) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def close(self) -> None:
        """Nothing was opened."""
