"""The clients: they send work all the time, and the same message again when the daemon dies before it answers."""

from __future__ import annotations

import threading
from random import Random
from typing import Any, Final

from chaos.judge import Sent
from chaos.workers import SHAPES, plan
from gateway.client import DaemonClient, Problem, Unreachable

_AGAIN: Final = frozenset({"draining", "store_unavailable", "mailbox_full"})
"""Refusals that say: the same message again, a little later."""
_WAIT: Final = 20.0
"""Seconds that a client waits for a reply before it goes on."""


class Door:
    """Where the daemon listens now; clients wait here while there is none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at: tuple[str, int] | None = None

    def opens(self, url: str, life: int) -> None:
        """Let everybody in."""
        with self._changed:
            self._at = url, life
            self._changed.notify_all()

    def closes(self) -> None:
        """Keep everybody waiting."""
        with self._changed:
            self._at = None

    def wait(self) -> tuple[str, int]:
        """Return address and life of a daemon that listens."""
        with self._changed:
            self._changed.wait_for(lambda: self._at is not None)
            assert self._at is not None
            return self._at


class Traffic:
    """Some clients, each a thread; `sent` holds what was acknowledged."""

    def __init__(self, door: Door, seed: int, clients: int = 4) -> None:
        self.sent: list[Sent] = []
        self.refused: list[str] = []
        """Answers that no client expects."""
        self.conversations = 8
        """How many conversations are spoken to; the driver lets it grow."""
        self._door = door
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, Random(f"{seed}-{number}")), daemon=True)  # noqa: S311  # repeatable
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> bool:
        """Let every client get its last answer; return whether all did within `timeout` seconds."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, number: int, rng: Random) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            text = f"{rng.choice(SHAPES)} {rng.uniform(0.001, 0.03):.3f}"
            fields: dict[str, Any] = {"message_id": f"m{number}-{count}"}
            if rng.random() < 0.3:
                fields["plan"] = plan(text)
            if rng.random() < 0.4:
                fields["wait"] = _WAIT
            self._send(f"c{rng.randrange(self.conversations)}", text, fields)
            self._stop.wait(rng.uniform(0.0, 0.06))

    def _send(self, conversation: str, text: str, fields: dict[str, Any]) -> None:
        while True:
            url, life = self._door.wait()
            try:
                with DaemonClient(url) as client:
                    answer = client.send(conversation, text, **fields)
            except Unreachable:
                threading.Event().wait(0.02)  # the door may not know yet that the daemon is dead
                continue
            except Problem as problem:
                if problem.code not in _AGAIN:
                    self.refused.append(f"{conversation} {fields['message_id']}: {problem}")
                    return
                threading.Event().wait(0.05)
                continue
            reply = answer if answer.get("type") == "reply.sent" else None
            self.sent.append(Sent(conversation, fields["message_id"], life, answer["request_id"], reply))
            return
