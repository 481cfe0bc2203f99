"""An actor's life as a dispatcher runs it: batches of messages, and what the runtime itself does with some of them.

Nothing here knows of threads: a dispatcher calls `run_batch`, one caller at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final

import pykka
from pykka import messages as pykka_messages

from actors.actor_timer import Timer
from actors.ending import Ending, answer_error
from actors.envelope import Envelope
from actors.ref import Stop
from actors.stages import LIVE, STARTING, STOPPING
from messages.lifecycle import ChildFailed, ChildStopped, NeededActorEnded, Terminated
from supervision.directives import OnError, rule_for


class Life(Ending):
    """From `on_start` until the end begins."""

    # Used here, made in actors/base.py

    @abstractmethod
    def may_end(self) -> bool: ...

    # The start: called by the system

    def _start_actor_loop(self) -> None:
        awake = type(self).on_start is not pykka.Actor.on_start
        if not awake:
            self._state = LIVE
        self.actor_inbox.attach(self, self.system.dispatcher.schedule, awake=awake)

    # Turns: called by the dispatcher

    def run_batch(self, limit: int) -> bool:
        """Handle at most `limit` messages; return True when there are more."""
        if self._state == STARTING:
            self._run_on_start()
        if self._state != LIVE:
            return self._run_ending()
        inbox = self.actor_inbox
        take = inbox.take
        now = self.system.monotonic
        for _ in range(limit):
            envelope = take()
            if envelope is None:
                break
            message = envelope.message
            self._current = message
            self._since = now()
            special = _SPECIAL.get(type(message))
            try:
                reply = self.on_receive(message) if special is None else special(self, envelope)
                if envelope.reply_to is not None:
                    envelope.reply_to.set(reply)
            except BaseException as error:  # noqa: BLE001  # the one place where an actor's errors become messages
                self._escaped(envelope, error)
            if self._state != LIVE:
                self._current = None
                return self._run_ending()
        self._current = None
        return inbox.release()

    def _run_on_start(self) -> None:
        self._since = self.system.monotonic()
        try:
            self.on_start()
        except BaseException as error:  # noqa: BLE001  # a failed start is told to the parent like any other failure
            self._fail(error)
        else:
            if self._state == STARTING:  # else it was taken out of the tree while it started
                self._state = LIVE

    def _escaped(self, envelope: Envelope, error: BaseException) -> None:
        reply_to, envelope.reply_to = envelope.reply_to, None
        if reply_to is not None and isinstance(error, Exception):
            answer_error(reply_to, error)
            self.log("ask_failed", level="debug", error_type=type(error).__name__)
            return
        if reply_to is not None:
            # The caller learns that the actor ended, and does not get an exception that would end it as well.
            dead = pykka.ActorDeadError(f"{self._actor_ref} ended by {type(error).__name__}")
            dead.__cause__ = error
            answer_error(reply_to, dead)
        if self.rules and rule_for(self.rules, error) is OnError.RESUME:
            self.log("actor_resumed", error_type=type(error).__name__, message_type=type(self._current).__name__)
        else:
            self._fail(error)

    # Messages of the runtime's own

    def _on_stop_message(self, envelope: Envelope) -> None:
        self._note_stop(envelope)
        message = envelope.message
        if isinstance(message, Stop) and message.ref is not self._actor_ref:
            self._answer_stops()
        elif self._detached or self.may_end():
            self._begin_end(STOPPING)

    def _on_proxy_message(self, envelope: Envelope) -> Any:
        return self._handle_receive(envelope.message)

    def _on_timer(self, envelope: Envelope) -> Any:
        timer: Timer = envelope.message
        timers = self._timers
        if timers is None or timers.get(timer.key) is not timer:
            return None  # cancelled, replaced, or of an earlier life
        del timers[timer.key]
        self._current = timer.message
        return self.on_receive(timer.message)

    def _on_terminated(self, envelope: Envelope) -> Any:
        message = envelope.message
        if self._needed is not None and message.path in self._needed:
            raise NeededActorEnded(f"{message.path} has ended: {message.reason}")
        return self.on_receive(message)

    def _on_child_report(self, envelope: Envelope) -> Any:
        self._forget_child(envelope.message.path)
        return self.on_receive(envelope.message)


_SPECIAL: Final[dict[type[Any], Callable[[Any, Envelope], Any]]] = {
    Stop: Life._on_stop_message,  # noqa: SLF001  # a table of this class's own methods
    pykka_messages._ActorStop: Life._on_stop_message,  # noqa: SLF001  # pykka's own stop message
    pykka_messages.ProxyCall: Life._on_proxy_message,  # noqa: SLF001  # as above
    pykka_messages.ProxyGetAttr: Life._on_proxy_message,  # noqa: SLF001  # as above
    pykka_messages.ProxySetAttr: Life._on_proxy_message,  # noqa: SLF001  # as above
    Timer: Life._on_timer,  # noqa: SLF001  # as above
    ChildFailed: Life._on_child_report,  # noqa: SLF001  # as above
    ChildStopped: Life._on_child_report,  # noqa: SLF001  # as above
    Terminated: Life._on_terminated,  # noqa: SLF001  # as above
}
"""Messages that the runtime looks at before `on_receive`, or instead of it. One look-up per message, by exact type."""
