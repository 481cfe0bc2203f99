"""What comes to a conversation from outside: new messages, repetitions of old ones, control.

A message id is looked for among the ids of this waking first and then, for a conversation that is older, in the store;
what comes meanwhile waits, so that the order of one sender is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from conversation.load import Load
from conversation.parts import Parts
from messages.conversation import Accept, Submit
from messages.events import Journaled, MessageAccepted, MessageRefused, ReplySent
from messages.frozen import frozen
from messages.inbound import Accepted, Answer, Refused, UserMessage
from messages.lifecycle import Passivate
from persistence.contract import InboxRow
from persistence.entry import CorruptEntry
from workflow.phases import Incoming
from workflow.state import State

_REMEMBERED_IDS = 64
"""Message ids kept in memory after their replies; older ones are looked up in the store."""


@frozen
class Found:
    """What the store knows about a message id."""

    submit: Submit
    row: InboxRow | BaseException | None


class Desk(Protocol):
    """What reception needs of the supervisor."""

    conversation_id: str
    state: State

    def tell_core(self, *messages: Incoming, submit: Submit | None = None) -> None:
        """Decide, and send the step to the journal."""

    def tell_self(self, message: Any) -> None:
        """Take an answer of the store; called from its threads."""

    def answer_when_durable(self, seq: int, answer: Callable[[Answer], None], what: Answer) -> None:
        """Answer as soon as everything up to `seq` is durable."""


class Reception:
    """Every method is called from the supervisor's own turn."""

    def __init__(self, desk: Desk, parts: Parts) -> None:
        self._desk = desk
        self._parts = parts
        self._waiting: list[Submit] = []  # a few at most, and an empty deque costs 600 bytes
        self._inbox: dict[str, InboxRow] = {}
        """Messages accepted since waking, newest last."""
        self._older_ids = False
        """True when the store may know message ids that `_inbox` does not."""
        self._open = False
        self._looking: Submit | None = None
        """The message whose id is being looked up."""
        self._serving: Submit | None = None
        """The message being served, until it has its answer or a step that will bring it."""

    def __bool__(self) -> bool:
        """Return whether anybody waits to be served."""
        return bool(self._waiting) or self._looking is not None

    def open(self, *, older_ids: bool) -> None:
        """Begin to serve: the conversation is awake."""
        self._open = True
        self._older_ids = older_ids
        self._serve()

    def take(self, submit: Submit) -> None:
        """Serve a message from outside, after those that came before it."""
        self._waiting.append(submit)
        self._serve()

    def found(self, found: Found) -> None:
        """Take the store's answer about a message id."""
        self._looking, self._serving = None, found.submit
        message = found.submit.message
        assert isinstance(message, UserMessage)
        if isinstance(found.row, InboxRow):
            self._repeated(found.submit, found.row)
        elif found.row is None:
            self._accept(found.submit, message)
        elif isinstance(found.row, CorruptEntry):
            found.submit.answer(Refused(code="unreadable", detail=str(found.row)))
        else:
            found.submit.answer(Refused(code="store_unavailable", detail=str(found.row), retry_after=1.0))
        self.served()
        self._serve()

    def note(self, events: Sequence[Journaled], submit: Submit | None, durable_seq: int) -> None:
        """Remember the message ids of a step."""
        for event in events:
            if isinstance(event, MessageAccepted) and submit is not None:
                row = InboxRow(event.message_id, event.request_id or "", submit.fingerprint, event.seq)
                self._inbox[event.message_id] = row
            elif isinstance(event, ReplySent) and event.message_id in self._inbox:
                self._inbox[event.message_id] = replace(self._inbox[event.message_id], reply_seq=event.seq)
        while len(self._inbox) > _REMEMBERED_IDS:
            oldest = next(iter(self._inbox.values()))
            if oldest.reply_seq is None or oldest.reply_seq > durable_seq:
                break
            del self._inbox[oldest.message_id]
            self._older_ids = True

    def close(self, refused: Refused) -> None:
        """Tell everybody who waits that they were not served; nothing may be asked of it any more."""
        unserved = [submit for submit in (self._serving, self._looking, *self._waiting) if submit is not None]
        self._waiting, self._looking, self._serving = [], None, None
        # What refers to each other in a circle stays in memory until the collector looks, which it does seldom.
        del self._desk
        for submit in unserved:
            submit.answer(refused)

    def served(self) -> None:
        """Note that whoever is being served is provided for, whatever happens next in this turn."""
        self._serving = None

    # Serving

    def _serve(self) -> None:
        while self._waiting and self._open and self._looking is None:
            submit = self._serving = self._waiting.pop(0)
            message = submit.message
            row = self._inbox.get(submit.message_id)
            if not isinstance(message, UserMessage):
                self._control(submit, message)
            elif row is not None:
                self._repeated(submit, row)
            elif self._older_ids and message.message_id is not None:
                self._look_up(submit)
            else:
                self._accept(submit, message)
            self.served()

    def _look_up(self, submit: Submit) -> None:
        self._looking = submit
        desk = self._desk  # it may have closed by the time the store answers

        def found(row: InboxRow | BaseException | None) -> None:
            desk.tell_self(Found(submit, row))

        self._parts.reader.find_message(desk.conversation_id, submit.message_id, found)

    def _accept(self, submit: Submit, message: UserMessage) -> None:
        queued = len(self._desk.state.queue)
        if queued >= self._parts.queue_limit:
            detail = f"{queued} messages of this conversation already wait for their turn"
            submit.answer(Refused(code="mailbox_full", detail=detail, retry_after=1.0))
            return
        if not self._parts.load.admit(self._desk.conversation_id):
            submit.answer(too_much(self._parts.load))
            if self._desk.state.seq == 0:
                self._desk.tell_self(Passivate())  # what was refused leaves nothing behind
            return
        policy = message.busy_policy or self._parts.busy_policy
        said, sender = message.text, message.user_id
        accept = Accept(submit.message_id, submit.request_id, said, sender, submit.plan, policy, message.traceparent)
        try:
            self._desk.tell_core(accept, submit=submit)
        finally:
            self._parts.load.note(self._desk.state)  # it may have been refused after all

    def _repeated(self, submit: Submit, row: InboxRow) -> None:
        """Answer a repetition with what became of the first one, once that is durable."""
        if row.fingerprint != submit.fingerprint:
            detail = f"message id {row.message_id} was used before in this conversation, with another body"
            submit.answer(Refused(code="message_id_conflict", detail=detail))
            return
        answer = Accepted(
            conversation_id=self._desk.conversation_id,
            message_id=row.message_id,
            request_id=row.request_id,
            seq=row.seq,
            duplicate=True,
            reply_seq=row.reply_seq,
        )
        self._desk.answer_when_durable(max(row.seq, row.reply_seq or 0), submit.answer, answer)

    def _control(self, submit: Submit, message: Any) -> None:
        if self._desk.state.seq == 0:
            detail = f"there is no conversation {self._desk.conversation_id}"
            submit.answer(Refused(code="not_found", detail=detail))
            self._desk.tell_self(Passivate())  # a stray id leaves nothing behind
        else:
            self._desk.tell_core(message, submit=submit)


def too_much(load: Load) -> Refused:
    """Return what a sender is told while too much is unfinished."""
    detail = f"{load.total} accepted requests are unfinished, which is as many as are taken; nothing was accepted"
    return Refused(code="mailbox_full", detail=detail, retry_after=2.0)


def answer_to(conversation_id: str, submit: Submit, events: Sequence[Journaled]) -> Answer:
    """Return what the sender is told once the step is durable."""
    first = events[0]
    if isinstance(first, MessageRefused):
        return Refused(code=first.code, detail=first.reason)
    if isinstance(submit.message, UserMessage):
        return Accepted(
            conversation_id=conversation_id,
            message_id=submit.message_id,
            request_id=submit.request_id,
            seq=first.seq,
        )
    return Accepted(conversation_id=conversation_id, seq=first.seq)
