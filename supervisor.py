"""The supervisor of ONE conversation: the only shell around the pure core.

    message -> decide -> events -> journal (durable) -> evolve -> reconcile(wanted(state) against what is running)

Rules:

1. It decides on its newest state and acts on its newest durable one: no child starts, no answer and no event leaves
   before the step that causes it is committed. It goes on taking messages while a commit is under way.
2. Waking is loading, folding, telling the core `Recovered`, and reconciling: the same lines as on any other day.
3. A child that fails is classed and judged by supervision; what its failure means is for the core to say.
4. Nothing here blocks: reading, committing and agents' code run elsewhere and come back as messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pykka import ActorDeadError

from actors.base import Actor
from actors.quick import QuickEnded, QuickSlow
from conversation import journal
from conversation.children import Children, LookAgain, StopOverdue
from conversation.compose import compose
from conversation.parts import Parts
from conversation.reception import Found, Reception, answer_to
from conversation.reports import reports
from messages.agent import NodeResult, Progress, RetryDue
from messages.conversation import Deadline, Quarantine, Submit
from messages.events import AgentProgress, Journaled, MessageAccepted, ReplySent
from messages.frozen import frozen
from messages.inbound import Answer, Refused, Resume
from messages.lifecycle import ChildFailed, ChildStopped, Crash, Passivate, Recovered, RestartRequested
from messages.planning import PlanReady
from messages.synthesis import Synthesized
from persistence.contract import AppendRefused, Committed, Loaded
from workflow.decide import tell
from workflow.errors import NotTaken
from workflow.memory import Memory
from workflow.phases import Incoming
from workflow.state import Phase, State
from workflow.step import Step


class StepRefused(Exception):
    """The store did not take a step: this supervisor no longer knows what is true and starts again from the journal."""

    error_class = "transient"


@frozen
class FromStore:
    """An answer of the reader or the writer, and which life of this supervisor asked for it.

    The mailbox outlives a crash: what an earlier life had asked says nothing to the next one, which asks for itself.
    """

    incarnation: int
    message: Any


@dataclass(slots=True)
class _Sent:
    """One step on its way to the journal."""

    state: State
    events: list[Journaled]
    answers: list[tuple[Callable[[Answer], None], Answer]]


_SPOKEN: Final = frozenset({MessageAccepted, ReplySent})
"""Events of what was said: reception and memory look at no others."""


class Supervisor(Actor):
    """Owns one conversation."""

    kind: ClassVar[str] = "supervisor"

    def __init__(self, conversation_id: str, parts: Parts, quarantine: str | None = None) -> None:
        super().__init__()
        self.conversation_id = conversation_id
        self.last_active = 0.0
        """When it last took a message from outside, in monotonic seconds; the router passivates by it."""
        self.state = State(conversation_id)
        """The newest one."""
        self._durable: State | None = None
        self._memory = Memory()
        self._snapshot_seq = 0
        self._pending: list[_Sent] = []  # a few at most, and an empty deque costs 600 bytes
        self._parts = parts
        self._quarantine = quarantine
        self._cut_off = False
        """Whether work is still to be taken up again, which waits for a person."""
        self._trouble: Exception | None = None
        """Why the first reading was not enough."""
        self._aside: list[Journaled] | None = None
        """What says that this conversation cannot be read, on its way to the journal."""
        self._reception = Reception(self, parts)
        self._crew = Children(self, parts, self.tell_quick)

    def log(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Log an event of this conversation."""
        fields = {"actor": self.path, "conversation_id": self.conversation_id, **fields}
        self.system.tell_log(event, level, fields)

    @property
    def working(self) -> bool:
        """Whether anything is running, waiting or not yet durable; read from other threads."""
        resting = self.state.request is None or self.state.phase in journal.RESTING
        return not resting or bool(self._pending) or bool(self._reception) or self._durable is None

    def on_start(self) -> None:
        """Ask for everything the store holds of this conversation."""
        self.last_active = self.system.clock.monotonic()
        # Steps of an earlier life may still wait in the writer: what is read before they are decided is stale.
        self._parts.when_decided(self.conversation_id, self._load)

    def _load(self) -> None:
        self._parts.reader.load(self.conversation_id, self._parts.recent_rows, self.tell_self)

    def on_receive(self, message: Any) -> None:
        """Take one message; see the module's rules."""
        match message:
            case FromStore():
                if message.incarnation == self.incarnation:
                    self._take_from_store(message.message)
            case Submit():
                self.last_active = self.system.clock.monotonic()
                self._reception.take(message)
            case QuickEnded():
                self.tell_core(*self._crew.quick_ended(message))
            case NodeResult() | PlanReady() | Synthesized() | RetryDue() | Deadline():
                self.tell_core(message)
            case ChildFailed():
                self._child_failed(message)
            case ChildStopped():
                if self._crew.stopped(message, self.state):
                    self._reconcile()
            case _:
                self._take_rare(message)

    def _take_rare(self, message: Any) -> None:
        match message:
            case QuickSlow():
                self._crew.quick_slow(message)
            case Progress():
                self._pass_on(message)
            case LookAgain():
                self._crew.look_again(message)
                self._reconcile()
            case Passivate():
                self._passivate()
            case StopOverdue():
                self._crew.overdue(message)
            case Crash():
                raise RestartRequested(f"restart asked for by {message.by}")
            case _:
                super().on_receive(message)

    def _take_from_store(self, message: Any) -> None:
        match message:
            case Committed() | AppendRefused() if self._aside is not None:
                self._set_aside(message)
            case Committed():
                self._committed(message.last_seq)
            case Loaded():
                self._wake(message)
            case Found():
                self._reception.found(message)
            case AppendRefused():
                raise StepRefused(f"{message.code}: {message.detail}")
            case BaseException():
                if not isinstance(message, journal.UNREADABLE):
                    raise message
                self._not_readable(None, message)
            case _:
                self.on_receive(message)

    # Waking and leaving

    def _wake(self, loaded: Loaded) -> None:
        try:
            woken = journal.wake(loaded)
        except journal.UNREADABLE as error:
            self._not_readable(loaded, error)
            return
        self.state = self._durable = woken.state
        self._memory = woken.memory
        self._snapshot_seq = woken.snapshot_seq
        self._parts.load.note(self.state)
        if self._trouble is not None:
            self.log("snapshot_replaced", seq=self.state.seq, reason=str(self._trouble))
            self._snapshot_seq -= self._parts.snapshot_every  # so the next step brings one, before retention cuts
            self._trouble = None
        # Taking work up again may be what fails: who is set aside does so when a person resumes it, and not before.
        if self._quarantine is not None and self.state.phase is not Phase.PAUSED and self.state.seq > 0:
            self.tell_core(Quarantine(self._quarantine))
        if self.state.quarantined is not None:
            self._cut_off = self.state.request is not None
        elif self.state.request is not None:
            self.log("recovered", phase=self.state.phase.value, seq=self.state.seq)
            self.tell_core(Recovered())
        self._reconcile()
        self._reception.open(older_ids=loaded.last_seq > 0)

    def _not_readable(self, loaded: Loaded | None, error: Exception) -> None:
        """Try the whole journal; when it was that which cannot be read, let the journal say so.

        `loaded` is None when not even the row says where the conversation is: then nothing can be appended to it.
        """
        if self._trouble is None:
            self._trouble = error
            self._parts.reader.load(self.conversation_id, self._parts.recent_rows, self.tell_self, whole=True)
            return
        reason = f"{self._trouble}" if str(error) == str(self._trouble) else f"{self._trouble}; {error}"
        self._trouble = journal.Unreadable(reason)
        said = f"what is stored cannot be read: {reason}"
        aside = None if loaded is None else journal.set_aside(loaded, said, self.system.clock.now_ms())
        if aside is None:
            raise self._trouble
        self._aside, step = aside
        self._parts.submit(step, self.tell_self)

    def _set_aside(self, outcome: Committed | AppendRefused) -> None:
        events, trouble = self._aside or [], self._trouble
        assert trouble is not None
        if isinstance(outcome, Committed):
            self._parts.publish(events)
            self._say(events)
        raise trouble

    def _passivate(self) -> None:
        if not self.working and not self._crew:
            # Before what has come meanwhile: that is for the next life, which can see it through.
            self.stop_now()

    def on_stop(self) -> None:
        """As `on_failure`: it may be stopped, with the one above it, while somebody waits."""
        self.on_failure(None, None, None)

    def on_failure(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Tell everybody who waits that nothing is certain; the next life knows what was recorded."""
        refused = Refused(
            code="store_unavailable",
            detail="the conversation was restarted before this was recorded; send the same message id again",
            retry_after=1.0,
            uncertain=True,
        )
        if isinstance(error, journal.Unreadable):
            refused = Refused(code="unreadable", detail=f"what is stored of this conversation cannot be read: {error}")
        for step in self._pending:
            for answer, _ in step.answers:
                answer(refused)
        self._reception.close(refused)
        self._crew.abandon()

    # Deciding and committing

    def tell_core(self, *messages: Incoming, submit: Submit | None = None) -> None:
        """Decide, and send the step to the journal; messages of one moment share one step."""
        if self._cut_off and messages and isinstance(messages[0], Resume):
            self._cut_off = False
            self.tell_core(Recovered())
        before = self.state.seq
        step = Step(self.state, self.system.clock.now_ms(), self._parts.limits)
        causes: list[Incoming] = []
        for message in messages:
            try:
                tell(step, message)
            except NotTaken as refusal:
                if submit is not None:
                    submit.answer(Refused(code=refusal.code, detail=refusal.reason))
                else:
                    self.system.dead_letters.add(self.path, refusal.reason, message)
            else:
                causes.append(message)
        events = step.events
        if not events:
            return
        if step.state.phase is Phase.SYNTHESIZING and self._parts.compose is not None:
            compose(step, self._parts.compose)
        state = step.state
        spoken = [event for event in events if type(event) in _SPOKEN]
        memory, note = journal.remember(self._memory, spoken, state, self._parts.memory_limits)
        due = journal.snapshot_due(state, self._snapshot_seq, self._parts.snapshot_every)
        append = journal.append(
            before,
            events,
            state,
            causes=causes,
            submit=submit,
            note=note,
            snapshot=due,
            keep_results=self._parts.keep_results,
        )
        self.state, self._memory = state, memory
        self._parts.load.note(state)
        if due:
            self._snapshot_seq = state.seq
        self._reception.note(spoken, submit, 0 if self._durable is None else self._durable.seq)
        answers = [] if submit is None else [(submit.answer, answer_to(self.conversation_id, submit, events))]
        self._pending.append(_Sent(state, events, answers))
        self._reception.served()
        self._parts.submit(append, self.tell_self)

    def tell_quick(self, message: Any) -> None:
        """Take what the quick lane says; called from its threads."""
        try:
            self.actor_ref.tell(message)
        except ActorDeadError:
            self.system.dead_letters.add(self.path, "the attempt was over before its outcome came", message)

    def tell_self(self, message: Any) -> None:
        """Take an answer of the reader or the writer; called from their threads."""
        try:
            self.actor_ref.tell(FromStore(self.incarnation, message))
        except ActorDeadError:
            return  # the next life of this supervisor asks for itself

    def answer_when_durable(self, seq: int, answer: Callable[[Answer], None], what: Answer) -> None:
        """Answer as soon as everything up to `seq` is durable."""
        for step in self._pending:
            if step.state.seq >= seq:
                step.answers.append((answer, what))
                return
        answer(what)

    def _committed(self, last_seq: int) -> None:
        while self._pending and self._pending[0].state.seq <= last_seq:
            step = self._pending.pop(0)
            self._durable = step.state
            for answer, what in step.answers:
                answer(what)
            self._parts.publish(step.events)
            self._say(step.events)
        self._reconcile()

    def _say(self, events: Sequence[Journaled]) -> None:
        said = reports(events)
        if said:
            self.system.tell_logs({"actor": self.path, "conversation_id": self.conversation_id}, said)

    # Children

    def _reconcile(self) -> None:
        if self._durable is not None:
            for failure in self._crew.reconcile(self._durable, self.state, self._memory):
                self.tell_core(failure)

    def _child_failed(self, failed: ChildFailed) -> None:
        verdict = self._crew.failed(failed, self.state)
        if verdict is not None:
            self.tell_core(verdict)
        else:
            self._reconcile()

    def _pass_on(self, progress: Progress) -> None:
        event = AgentProgress(
            seq=0,
            at=self.system.clock.now_ms(),
            conversation_id=self.conversation_id,
            request_id=progress.request_id,
            node=progress.node,
            agent=progress.agent,
            attempt=progress.attempt,
            text=progress.text,
        )
        self._parts.publish([event])
