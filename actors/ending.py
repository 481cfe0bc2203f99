"""How an actor ends: its children first; then what it had not handled goes to its parent, with the report."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import pykka
from pykka import messages as pykka_messages

from actors.actor_timer import Timer
from actors.birth import Birth
from actors.envelope import Envelope
from actors.failures import to_failure, traceback_of, where
from actors.mailbox import Mailbox
from actors.ref import Stop
from actors.stages import ENDED, FAILING, STOPPING
from messages.lifecycle import ChildFailed, ChildStopped, Terminated


class Ending(Birth):
    """`_begin_end` lets go of timers and children, `_run_ending` waits for the children, `_end` is the last turn."""

    # Used here, made in actors/base.py

    @abstractmethod
    def log(self, event: str, level: str | None = None, **fields: Any) -> None: ...

    @abstractmethod
    def discard(self, mailbox: Mailbox, path: str, reason: str = ...) -> None: ...

    # Step by step

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._failure = to_failure(error, now_s=self.system.clock.now_ms() / 1000)
        self.actor_stopped.set()
        self.log(
            "actor_crashed",
            level="error",
            kind=self.kind or type(self).__name__,
            incarnation=self.incarnation,
            message_type=type(self._current).__name__ if self._current is not None else None,
            error_type=self._failure.type,
            error_class=self._failure.error_class,
            error_message=self._failure.message,
            where=where(error),
        )
        self._guard("on_failure", lambda: self.on_failure(type(error), error, traceback_of(error)))
        # It knows the frame that handled the message, which may hold the error itself: a circle around this actor, its
        # parent and all they have, until the collector looks. Who supervises goes by the error; its place is logged.
        # Past the error's own class, which may refuse to have anything set: a frozen dataclass does.
        BaseException.with_traceback(error, None)
        self._begin_end(FAILING)

    def _begin_end(self, state: int) -> None:
        for timer in list((self._timers or {}).values()):
            timer.silence()
        self._timers = None
        for child in self.system.close_to_children(self, state):
            child.actor_inbox.put_first(Envelope(Stop(child._actor_ref)))  # noqa: SLF001  # another actor's, but the runtime's own

    def _run_ending(self) -> bool:
        """Wait for the children; keep all else for the successor.

        Only `run_batch` may call this, as its last act: it lets go of the mailbox, so another thread may come at once.
        """
        if self._state == ENDED:
            return False
        inbox = self.actor_inbox
        if self._kept is None:
            self._kept = []
        while self._children and (envelope := inbox.take()) is not None:
            message = envelope.message
            if isinstance(message, (ChildFailed, ChildStopped)):
                self._forget_child(message.path)
                self.discard(message.mailbox, message.path, "its parent has ended")
            elif isinstance(message, (Stop, pykka_messages._ActorStop)):  # noqa: SLF001  # pykka's own stop message
                self._note_stop(envelope)
            else:
                self._kept.append(envelope)
        if self._children:
            return inbox.release()
        self._end()
        return False

    def _end(self) -> None:
        orderly = self._state == STOPPING
        if orderly:
            self.actor_stopped.set()
            self._guard("on_stop", self.on_stop)
        inbox = self.actor_inbox
        inbox.restore(self._sift([*(self._kept or ()), *inbox.drain()], orderly=orderly))
        self._kept = None
        inbox.detach()
        watchers = self.system.ended(self)
        lifetime = self.system.monotonic() - self._started_at
        self._report(lifetime)
        reason = "stopped" if self._failure is None else f"{self._failure.type}: {self._failure.message}"
        for watcher in watchers:
            watcher.actor_inbox.put(Envelope(Terminated(self.path, reason)))
        if orderly:
            self.log("actor_stopped", level="debug", kind=self.kind or type(self).__name__, lifetime=lifetime)
        self._error = None
        self._answer_stops()

    def mark_ended(self) -> None:
        """Record that nothing of this actor is left; the system calls this while it takes it out of its table."""
        self._state = ENDED

    def _sift(self, left: list[Envelope], *, orderly: bool) -> list[Envelope]:
        """Return what a successor should have; the rest concerned this life only, and is answered."""
        keep = []
        for envelope in left:
            message = envelope.message
            if isinstance(message, (Stop, pykka_messages._ActorStop)):  # noqa: SLF001  # pykka's own stop message
                self._note_stop(envelope)
            elif isinstance(message, (ChildFailed, ChildStopped)):
                self.discard(message.mailbox, message.path, "its parent has ended")
            elif isinstance(message, (Timer, Terminated)):
                continue
            elif orderly and envelope.reply_to is not None:
                answer_error(envelope.reply_to, _dead(self._actor_ref))
            else:
                keep.append(envelope)
        return keep

    def _report(self, lifetime: float) -> None:
        inbox = self.actor_inbox
        if self._detached:
            self.system.discard(inbox, self.path, "its actor was taken out of the tree")
            return
        if self.parent is None:
            self.system.discard(inbox, self.path, "its actor has ended")
            return
        report: ChildFailed | ChildStopped
        if self._failure is None:
            report = ChildStopped(self.path, self.incarnation, inbox)
        else:
            report = ChildFailed(self.path, self.incarnation, self._failure, self._error, inbox, lifetime, self.took_ms)
        self.parent.actor_inbox.put(Envelope(report))

    # Parts of it

    def _forget_child(self, path: str) -> None:
        # Only the parent takes children out, when it takes the report in: so none is in the table of a later life.
        children = self._children
        if children is not None:
            child = children.get(path)
            if child is not None and child._state == ENDED:  # noqa: SLF001  # another actor's, but the runtime's own
                self.system.release_child(self, path, child)

    def _note_stop(self, envelope: Envelope) -> None:
        if envelope.reply_to is not None:
            if self._stop_replies is None:
                self._stop_replies = []
            self._stop_replies.append(envelope.reply_to)
            envelope.reply_to = None

    def _answer_stops(self) -> None:
        replies, self._stop_replies = self._stop_replies, None
        for reply_to in replies or ():
            reply_to.set(None)

    def _guard(self, hook: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # the actor is ending anyway; its hook must not keep it
            failure = to_failure(error)
            fields = {"error_type": failure.type, "error_class": failure.error_class, "error_message": failure.message}
            self.log("actor_hook_failed", level="error", hook=hook, where=where(error), **fields)


def answer_error(reply_to: pykka.Future[Any], error: BaseException) -> None:
    """Answer with an error; never raises."""
    try:
        reply_to.set_exception((type(error), error, traceback_of(error)))
    except Exception:  # noqa: BLE001  # somebody has answered already (queue.Full): the caller has what it needs
        return


def _dead(ref: pykka.ActorRef[Any]) -> pykka.ActorDeadError:
    return pykka.ActorDeadError(f"{ref} stopped before handling the message")
