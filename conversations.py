"""The parent of all supervisors: starts, restarts, passivates and forgets them; alone, so that none has a twin."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from actors.base import Actor
from actors.envelope import Envelope
from actors.mailbox import Mailbox
from actors.ref import ActorRef
from conversation import journal
from conversation.parts import Parts
from messages.conversation import Submit
from messages.inbound import Refused
from messages.lifecycle import ChildFailed, ChildStopped, Passivate, RestartRequested
from supervision.backoff import Backoff
from supervision.decide import History, Restart, decide
from supervision.errors import classify
from supervision.spec import ChildSpec
from supervisor import Supervisor

PATH = "/conversations"
_WOKEN_AT_ONCE = 100
"""Unfinished conversations taken up per step of a recovery, so that new messages are served beside them."""
_SUPERVISOR = ChildSpec(
    id="supervisor",
    backoff=Backoff(min_backoff=0.1, max_backoff=10.0, factor=2.0, random_factor=0.2, reset_backoff_after=60.0),
    max_restarts=8,
    retry_permanent_errors=True,
    retry_fatal_errors=True,
)
"""A supervisor is tried again whatever escaped it; after 8 lives in a row its conversation is quarantined."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Start the supervisor of a conversation if it is not there, and give it this message."""

    conversation_id: str
    submit: Submit | None
    quarantine: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeSome:
    """Take up unfinished conversations, a few at a time."""

    conversation_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Revive:
    """The backoff before a supervisor's next life is over."""

    conversation_id: str


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Give conversations that wake from now on another world; those that are awake keep theirs."""

    parts: Parts
    passivate_after: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Passivate those that nobody has spoken to for a while."""


@dataclass(slots=True)
class Record:
    """What is known of one conversation that is awake."""

    ref: ActorRef[Supervisor] | None
    """None while its supervisor waits for its next life."""
    mailbox: Mailbox | None = None
    """What the supervisor's next life will find."""
    incarnation: int = 1
    history: History = field(default_factory=History)


class Conversations(Actor):
    """The parent of all supervisors."""

    kind: ClassVar[str] = "router"

    def __init__(self, live: dict[str, Record], parts: Parts, passivate_after: float) -> None:
        super().__init__()
        self._live = live
        self._parts = parts
        self._passivate_after = passivate_after

    def on_start(self) -> None:
        """Begin to sweep."""
        self._schedule_sweep()

    def on_receive(self, message: Any) -> None:
        """Start, restart, forget."""
        match message:
            case Wake():
                self._wake(message)
            case ChildStopped():
                self._stopped(message)
            case ChildFailed():
                self._failed(message)
            case _Revive():
                self._revive(message.conversation_id)
            case ResumeSome():
                self._resume_some(message.conversation_ids)
            case Sweep():
                self._sweep()
            case Reconfigure():
                self._parts, self._passivate_after = message.parts, message.passivate_after
            case _:
                super().on_receive(message)

    def _wake(self, wake: Wake) -> None:
        record = self._live.get(wake.conversation_id)
        if record is None:
            record = self._begin(wake.conversation_id, wake.quarantine)
        if wake.submit is None:
            return
        envelope = Envelope(wake.submit)
        mailbox = record.mailbox if record.ref is None else record.ref.actor_inbox
        assert mailbox is not None
        if not mailbox.offer(envelope):
            wake.submit.answer(mailbox_full(wake.conversation_id))

    def _begin(self, conversation_id: str, quarantine: str | None = None) -> Record:
        ref = self.spawn(Supervisor, conversation_id, conversation_id, self._parts, quarantine)
        record = Record(ref, history=History(started_at=self.system.clock.monotonic()))
        self._live[conversation_id] = record
        return record

    def _stopped(self, stopped: ChildStopped) -> None:
        """Forget a passivated conversation, unless somebody has spoken to it meanwhile."""
        conversation_id = stopped.path.rpartition("/")[2]
        record = self._live.get(conversation_id)
        if record is None or record.incarnation != stopped.incarnation:
            return
        del self._live[conversation_id]
        self._parts.load.forget(conversation_id)

        def again(envelope: Envelope) -> None:
            if isinstance(envelope.message, Submit):
                self.system.tell(self.actor_ref, Wake(conversation_id, envelope.message))

        stopped.mailbox.close(again)

    def _failed(self, failed: ChildFailed) -> None:
        conversation_id = failed.path.rpartition("/")[2]
        record = self._live.get(conversation_id)
        if record is None or record.incarnation != failed.incarnation:
            self.discard(failed.mailbox, failed.path)
            return
        if isinstance(failed.error, journal.UNREADABLE):
            self._give_up(conversation_id, failed)
            return
        now = self.system.clock.monotonic()
        classified = None if failed.error is None else classify(failed.error)
        directive = decide(_SUPERVISOR, classified, record.history, now, self._parts.random())
        record.ref, record.mailbox = None, failed.mailbox
        if isinstance(failed.error, RestartRequested):
            directive = Restart(0.0, "a person asked for it")  # which says nothing against the conversation
        elif isinstance(directive, Restart):
            record.history = record.history.after(_SUPERVISOR, now)
        if isinstance(directive, Restart):
            cause = f"{failed.failure.type}: {failed.failure.message}"
            self.system.tree.note_backing_off(failed.path, Supervisor.kind, record.history.failures, cause)
            self.schedule(directive.after, _Revive(conversation_id), conversation_id)
        else:
            self.log("actor_escalated", "error", path=failed.path, reason=directive.reason)
            record.history = replace(record.history, failures=0)
            self._revive(conversation_id, f"its supervisor failed again and again: {directive.reason}")

    def _give_up(self, conversation_id: str, failed: ChildFailed) -> None:
        """Leave alone what cannot be read: trying again would read the same. Who speaks to it next is told why."""
        del self._live[conversation_id]
        self._parts.load.forget(conversation_id)
        self.system.tree.forget(failed.path)
        reason = failed.failure.message
        self.log("conversation_unreadable", conversation_id=conversation_id, reason=reason)

        def refuse(envelope: Envelope) -> None:
            if isinstance(envelope.message, Submit):
                detail = f"what is stored of this conversation cannot be read: {reason}"
                envelope.message.answer(Refused(code="unreadable", detail=detail))

        failed.mailbox.close(refuse)

    def _revive(self, conversation_id: str, quarantine: str | None = None) -> None:
        record = self._live.get(conversation_id)
        if record is None or record.ref is not None:
            return
        record.incarnation += 1
        record.history = replace(record.history, started_at=self.system.clock.monotonic())
        record.ref = self.spawn(
            Supervisor,
            conversation_id,
            conversation_id,
            self._parts,
            quarantine,
            mailbox=record.mailbox,
            incarnation=record.incarnation,
        )
        record.mailbox = None
        self.log("actor_restarted", path=record.ref.path, incarnation=record.incarnation)

    def _resume_some(self, conversation_ids: tuple[str, ...]) -> None:
        for conversation_id in conversation_ids[:_WOKEN_AT_ONCE]:
            self._wake(Wake(conversation_id, None))
        if len(conversation_ids) > _WOKEN_AT_ONCE:
            # Through the mailbox, not in a loop: messages that came meanwhile are served in between.
            self.system.tell(self.actor_ref, ResumeSome(conversation_ids[_WOKEN_AT_ONCE:]))

    def _sweep(self) -> None:
        now = self.system.clock.monotonic()
        for record in list(self._live.values()):
            if record.ref is None:
                continue
            actor = record.ref._actor_weakref()  # noqa: SLF001  # a plain read instead of a message to 100,000 actors
            if actor is not None and now - actor.last_active > self._passivate_after:
                self.system.tell(record.ref, Passivate())
        self._schedule_sweep()

    def _schedule_sweep(self) -> None:
        self.schedule(max(0.05, min(10.0, self._passivate_after / 2)), Sweep(), "sweep")


def mailbox_full(conversation_id: str) -> Refused:
    detail = f"conversation {conversation_id} has as many messages waiting as are taken"
    return Refused(code="mailbox_full", detail=detail, retry_after=1.0)
