"""What tests of actors share: an actor that keeps what it hears, a log, and waiting without sleeping."""

from __future__ import annotations

import queue
import threading
import time

from actors.base import Actor

DEADLINE = 10.0
"""Seconds after which something that should have happened is taken for missing."""


class Recorder(Actor):
    """Puts every message into a queue, where a test can wait for it."""

    def __init__(self):
        super().__init__()
        self.heard = queue.SimpleQueue()

    def on_receive(self, message):
        self.heard.put(message)
        return message


class Log:
    """Keeps log events."""

    def __init__(self):
        self.events = []

    def __call__(self, event, *, level="info", **fields):
        self.events.append((event, level, fields))

    def named(self, event):
        return [(level, fields) for name, level, fields in list(self.events) if name == event]


def wait_until(condition):
    """Return once `condition()` holds; fails at the deadline."""
    pause = threading.Event()
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        pause.wait(0.002)
