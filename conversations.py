"""The parent of all supervisors: starts, restarts, passivates and forgets them; alone, so that none has a twin."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf
from typing import Any, ClassVar

from pykka import ActorDeadError

from actors.address import Address
from actors.base import Actor
from actors.child_plan import ChildPlan
from actors.envelope import Envelope
from actors.mailbox import Mailbox
from actors.ref import ActorRef
from conversation import journal
from conversation.parts import Parts
from messages.conversation import Submit
from messages.frozen import frozen
from messages.inbound import Refused
from messages.lifecycle import ChildFailed, ChildStopped, Crash, Passivate, RestartRequested
from supervision.backoff import Backoff
from supervision.decide import History, Restart, decide
from supervision.errors import classify
from supervision.spec import ChildSpec
from supervisor import Supervisor

PATH = "/conversations"
WOKEN_AT_ONCE = 100
"""Unfinished conversations taken up per step of a recovery, so that new messages are served beside them."""
_LOOK_EVERY = 10.0
"""Seconds between looks for conversations that have long been idle, at most."""
_LOOK_AGAIN = 0.5
"""Seconds until the next look at those that were busy at a reload and still have the old agents."""
_LOOKS_PER_SECOND = 20_000
"""At most so many such looks, a hundredth of a core: with 100,000 busy conversations they take turns of 5 s."""
_SUPERVISOR = ChildSpec(
    id="supervisor",
    backoff=Backoff(min_backoff=0.1, max_backoff=10.0, factor=2.0, random_factor=0.2, reset_backoff_after=60.0),
    max_restarts=8,
    retry_permanent_errors=True,
    retry_fatal_errors=True,
)
"""A supervisor is tried again whatever escaped it; after 8 lives in a row its conversation is quarantined."""


_OWN_SPEC = ChildSpec(
    id=PATH[1:],
    backoff=Backoff(min_backoff=0.05, max_backoff=2.0, reset_backoff_after=60.0),
    shutdown_timeout=inf,
    retry_permanent_errors=True,
)
"""For the root: this actor always comes back, at once; the root gives up when that is too often."""


@frozen
class Wake:
    """Start the supervisor of a conversation if it is not there, and give it this message."""

    conversation_id: str
    submit: Submit | None
    quarantine: str | None = None


@frozen
class ResumeSome:
    """Take up so many of the conversations that the table says are unresumed, then the next ones."""

    most: int


@frozen
class _Revive:
    """The backoff before a supervisor's next life is over."""

    conversation_id: str


@frozen
class _ReviveSome:
    """Give their next life to those whose parent failed, a few at a time."""

    conversation_ids: tuple[str, ...]


@frozen
class Reconfigure:
    """Give conversations that wake from now on another world; those that are awake keep theirs."""

    parts: Parts
    passivate_after: float


@frozen
class _Renew:
    """Look again at those that still have the old world."""


@frozen
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
    parts: Parts | None = None
    """The world it was given; None until its first life."""
    resting: bool = False
    """It had nothing to do when the parent of all failed."""


@dataclass(slots=True)
class Table:
    """What outlives the parent of all supervisors: one life after the other works on it, never two at once."""

    live: dict[str, Record]
    parts: Parts
    passivate_after: float
    unresumed: dict[str, str | None] = field(default_factory=dict)
    """What was unfinished at start and is still to be taken up; with a reason: to be set aside."""
    held: set[str] = field(default_factory=set)
    """Held back while others are tried: taken up later, and by no message before."""


def plan(table: Table, address: Address) -> ChildPlan:
    """Return how the root starts the parent of all supervisors."""
    return ChildPlan(_OWN_SPEC, Conversations, (table,), address=address)


class Conversations(Actor):
    """The parent of all supervisors."""

    kind: ClassVar[str] = "router"

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table
        self._live = table.live
        self._parts = table.parts
        self._passivate_after = table.passivate_after
        self._outdated: set[str] = set()
        """Woken before a reload, and not yet seen without work since."""

    def on_start(self) -> None:
        """Begin to sweep; take up what was awake when an earlier life failed."""
        self._schedule_sweep()
        if self._table.unresumed:
            self.system.tell(self.actor_ref, ResumeSome(WOKEN_AT_ONCE))
        if self._live:
            waiting = []
            for conversation_id, record in list(self._live.items()):
                record.ref = None
                if record.resting and not record.mailbox:
                    del self._live[conversation_id]  # it is in the store, and wakes when somebody speaks to it
                    self._parts.load.forget(conversation_id)
                else:
                    waiting.append(conversation_id)
            self.system.tell(self.actor_ref, _ReviveSome(tuple(waiting)))

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
                self._resume_some(message.most)
            case Sweep():
                self._sweep()
            case _ReviveSome():
                self._revive_some(message.conversation_ids)
            case Reconfigure():
                self._parts, self._passivate_after = message.parts, message.passivate_after
                self._outdated = set(self._live)
                self._sweep()
                self._renew()
            case _Renew():
                self._renew()
            case Crash():
                raise RestartRequested(f"restart asked for by {message.by}")
            case _:
                super().on_receive(message)

    # Its own end

    def discard(self, mailbox: Mailbox, path: str, reason: str = "its actor was not restarted") -> None:
        """Keep what a supervisor had not handled that ended only because this actor did: the next life goes on."""
        record = self._live.get(path.rpartition("/")[2])
        if record is not None and record.ref is not None and record.ref.actor_inbox is mailbox:
            record.ref, record.mailbox = None, mailbox
        else:
            super().discard(mailbox, path, reason)

    def on_failure(self, *_exc_info: object) -> None:
        """Answer whoever sent what it failed at; note who has nothing to do."""
        if isinstance(self._current, Wake) and self._current.submit is not None:
            detail = "the message could not be passed on; send the same message id again"
            self._current.submit.answer(Refused(code="store_unavailable", detail=detail, retry_after=1.0))
        for record in list(self._live.values()):
            actor = _peek(record)
            record.resting = actor is not None and not actor.working

    def on_stop(self) -> None:
        """Let go of what is kept for lives that will not come."""
        for conversation_id, record in list(self._live.items()):
            if record.mailbox is not None:
                super().discard(record.mailbox, self.path_of(conversation_id), "its parent has ended")

    # Waking

    def _wake(self, wake: Wake) -> None:
        record = self._live.get(wake.conversation_id)
        if record is None:
            record = self._begin(wake.conversation_id, wake.quarantine)
        if wake.submit is None:
            return
        envelope = Envelope(wake.submit)
        if record.ref is None and record.mailbox is None:  # lost with what an earlier life failed on
            record.mailbox = Mailbox(self.system.mailbox_limit, self.system.monotonic)
        mailbox = record.mailbox if record.ref is None else record.ref.actor_inbox
        assert mailbox is not None
        if not mailbox.offer(envelope):
            wake.submit.answer(mailbox_full(wake.conversation_id))

    def _begin(self, conversation_id: str, quarantine: str | None = None) -> Record:
        ref = self.spawn(Supervisor, conversation_id, conversation_id, self._parts, quarantine)
        record = Record(ref, history=History(started_at=self.system.clock.monotonic()), parts=self._parts)
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
        if isinstance(failed.error, journal.Unreadable):
            self._give_up(conversation_id, failed)
            return
        now = self.system.clock.monotonic()
        classified = None if failed.error is None else classify(failed.error, now_s=self.system.clock.now_ms() / 1_000)
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
        record.mailbox, record.parts = None, self._parts
        self.log("actor_restarted", path=record.ref.path, incarnation=record.incarnation)

    def _revive_some(self, conversation_ids: tuple[str, ...]) -> None:
        for conversation_id in conversation_ids[:WOKEN_AT_ONCE]:
            self._revive(conversation_id)
        if len(conversation_ids) > WOKEN_AT_ONCE:
            self.system.tell(self.actor_ref, _ReviveSome(conversation_ids[WOKEN_AT_ONCE:]))

    def _resume_some(self, most: int) -> None:
        unresumed = self._table.unresumed
        for conversation_id in list(islice(unresumed, most)):
            self._wake(Wake(conversation_id, None, unresumed[conversation_id]))
            del unresumed[conversation_id]
        if unresumed:
            # Through the mailbox, not in a loop: messages that came meanwhile are served in between.
            self.system.tell(self.actor_ref, ResumeSome(WOKEN_AT_ONCE))

    def _sweep(self) -> None:
        now = self.system.clock.monotonic()
        for record in list(self._live.values()):
            actor = _peek(record)
            if actor is not None and now - actor.last_active > self._passivate_after:
                _passivate(record)
        self._schedule_sweep()

    def _schedule_sweep(self) -> None:
        self.schedule(max(0.05, min(_LOOK_EVERY, self._passivate_after / 2)), Sweep(), "sweep")

    def _renew(self) -> None:
        """Let those that were woken before a reload wake anew as soon as they have nothing to do."""
        for conversation_id in list(self._outdated):
            record = self._live.get(conversation_id)
            if record is None or record.parts is self._parts:
                self._outdated.discard(conversation_id)
                continue
            actor = _peek(record)
            # One at work is not asked: it would find as many of these in its mailbox as it was looked at.
            if actor is not None and not actor.working:
                _passivate(record)
        if self._outdated:
            self.schedule(max(_LOOK_AGAIN, len(self._outdated) / _LOOKS_PER_SECOND), _Renew(), "renew")


def _peek(record: Record) -> Supervisor | None:
    """Return the actor itself, for plain reads instead of messages to 100,000 of them."""
    return None if record.ref is None else record.ref._actor_weakref()  # noqa: SLF001  # see above


def _passivate(record: Record) -> None:
    assert record.ref is not None
    with suppress(ActorDeadError):  # it has ended by itself, and its report is on the way
        record.ref.tell(Passivate())


def held_back(conversation_id: str) -> Refused:
    detail = (
        f"conversation {conversation_id} is held back for at most some minutes, until it is clear which one ended the "
        "daemon; send the same message id again, or cancel it"
    )
    return Refused(code="held_back", detail=detail, retry_after=5.0)


def mailbox_full(conversation_id: str) -> Refused:
    detail = f"conversation {conversation_id} has as many messages waiting as are taken"
    return Refused(code="mailbox_full", detail=detail, retry_after=1.0)
