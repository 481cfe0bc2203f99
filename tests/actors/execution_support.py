"""What the tests of execution share: one call of an agent, and what is told about it."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

from actors_support import DEADLINE, wait_until

from agents.decorator import spec_of
from messages.agent import RunNode


class Told:
    """Keeps everything that is told about one call."""

    def __init__(self):
        self.outcomes = queue.SimpleQueue()
        self.count = 0
        self.progress = []
        self.threads = []
        self.call = None

    def __call__(self, outcome):
        self.count += 1
        self.threads.append(threading.current_thread())
        self.outcomes.put(outcome)

    def outcome(self):
        return self.outcomes.get(timeout=DEADLINE)


def node(agent, *, conversation="c1", name="n1", timeout=20.0, **inputs):
    return RunNode(conversation, "r1", name, agent, 2, inputs, timeout, "text", "u1", "", "v1", "key-1")


def run(execution, function, *, spec=None, conversation="c1", name="n1", timeout=20.0, **inputs):
    """Start a call and return what is told about it."""
    spec = spec or spec_of(function)
    told = Told()
    message = node(spec.name, conversation=conversation, name=name, timeout=timeout, **inputs)
    told.call = execution.run(spec, message, done=told, progress=told.progress.append)
    return told


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def pids_in(path, count):
    """Wait until so many processes have written their ids, and return those."""
    wait_until(lambda: path.exists() and len(path.read_text().splitlines()) >= count)
    return [int(line) for line in path.read_text().splitlines()]


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def threads():
    """The threads there are, but for the one that watches over the test's own time."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("pytest_timeout")}


def took(since):
    return time.monotonic() - since
