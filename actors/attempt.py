"""What planner, agent and synthesizer actors share: one command, one attempt, one answer, then the end.

The work itself runs elsewhere (actors/execution.py) and comes back as a message, so that no dispatcher thread waits. A
failed attempt is raised here, which ends this actor and tells the parent: supervision decides the rest.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from pykka import ActorDeadError

from actors.base import Actor
from actors.call import Call
from actors.quick import Adopt, QuickCall
from messages.lifecycle import Crash, RestartRequested


@dataclass(frozen=True, slots=True)
class _Finished:
    """The work has ended, well or badly."""

    outcome: Any


class AttemptActor(Actor):
    """An actor that makes one attempt."""

    def __init__(self) -> None:
        super().__init__()
        self._command: Any = None
        self._call: Call | QuickCall | None = None

    @abstractmethod
    def begin(self, message: Any) -> Call | None:
        """Start the work for `message`; `finished` is called with a value or an exception when it ends."""

    @abstractmethod
    def succeed(self, message: Any, value: Any) -> None:
        """Tell the parent what came out."""

    def on_receive(self, message: Any) -> None:
        """Take the one command, then its outcome."""
        if isinstance(message, _Finished):
            call, self._call = self._call, None
            self.working_on = None
            if isinstance(message.outcome, BaseException):
                self.took_ms = None if call is None else call.elapsed_ms
                raise message.outcome
            self.succeed(self._command, message.outcome)
            self.stop()
        elif isinstance(message, Crash):
            raise RestartRequested(f"restart asked for by {message.by}")
        elif isinstance(message, Adopt) and self._command is None:
            self._command = message.call.order
            self.working_on = type(self._command).__name__, message.call.began
            self._call = message.call
            message.call.adopt(self.finished)
        elif self._command is None:
            self._command = message
            self.working_on = type(message).__name__, self.system.clock.monotonic()
            self._call = self.begin(message)
        else:
            self.on_other(message)

    def on_other(self, message: Any) -> None:
        """Take anything else: a stale command handed over from an earlier life is a dead letter."""
        self.system.dead_letters.add(self.path, "this attempt already has its command", message)

    def finished(self, outcome: Any) -> None:
        """Take the outcome; called once, from any thread."""
        try:
            self.actor_ref.tell(_Finished(outcome))
        except ActorDeadError:
            self.system.dead_letters.add(self.path, "the attempt was over before its outcome came", outcome)

    def on_stop(self) -> None:
        """Give up work that is still going on: nobody waits for it any more."""
        self._abandon()

    def on_failure(self, *_exc_info: object) -> None:
        """As `on_stop`."""
        self._abandon()

    def _abandon(self) -> None:
        if self._call is not None:
            self._call.abandon()
            self._call = None
