"""Conversation id -> supervisor: wakes, passivates and supervises the supervisors.

The quick way in: a message for a conversation that is awake goes straight into its supervisor's mailbox. Everything
else goes through one actor, `/conversations`, which alone starts, restarts and forgets supervisors, so that a
conversation never has two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

import uuid_utils
from pykka import ActorDeadError

from actors.address import Address
from actors.child_plan import AddChild, ChildPlan
from actors.mailbox import Mailbox
from actors.root import Pulse, start_root
from actors.system import ActorSystem
from conversation.parts import Parts
from conversation.reception import too_much
from conversations import (
    PATH,
    WOKEN_AT_ONCE,
    Reconfigure,
    Record,
    ResumeSome,
    Sweep,
    Table,
    Wake,
    held_back,
    mailbox_full,
    plan,
)
from messages.conversation import Submit
from messages.inbound import Answer, Cancel, Pause, Refused, Resume, UserMessage
from messages.plan import Plan, ResolvedPlan


class PlanRefused(Exception):
    """A plan that a client sent cannot be run; `problems` names everything wrong with it."""

    def __init__(self, problems: Sequence[dict[str, Any]]) -> None:
        super().__init__(f"{len(problems)} problem(s) in the plan")
        self.problems = tuple(problems)


class CheckPlan(Protocol):
    """Checks a client's plan against the agents; raises `PlanRefused`."""

    def __call__(self, plan: Plan) -> ResolvedPlan:
        """Return the plan as it will be run."""


class Router:
    """The way in for every gateway; safe to use from any thread."""

    def __init__(
        self,
        system: ActorSystem,
        parts: Parts,
        *,
        check_plan: CheckPlan,
        passivate_after: float,
        admits: Callable[[], Refused | None] = lambda: None,
        new_id: Callable[[], str] = lambda: str(uuid_utils.uuid7()),
        on_failed: Callable[[BaseException | None], None] = lambda _error: None,
        jobs: Iterable[ChildPlan] = (),
        pulse: Pulse | None = None,
    ) -> None:
        """`on_failed` is told when no conversation can be reached any more; `jobs` are supervised beside them."""
        self._system = system
        self._check_plan = check_plan
        self._admits = admits
        self._new_id = new_id
        self._load = parts.load
        self._live: dict[str, Record] = {}
        self.draining = False
        self._conversations = Address(system, PATH, Mailbox(system.mailbox_limit, system.monotonic))
        self._table = Table(self._live, parts, passivate_after)
        jobs = (plan(self._table, self._conversations), *jobs)
        self._root = start_root(system, jobs, on_failed, parts.random, pulse)

    def submit(self, message: UserMessage | Cancel | Pause | Resume, answer: Callable[[Answer], None]) -> None:
        """Take a message; `answer` is called exactly once, from any thread, when it is durable or refused."""
        if self.draining:
            detail = "the daemon is about to stop; it takes no new work"
            answer(Refused(code="draining", detail=detail, retry_after=5.0))
            return
        refused = self._admits()
        # A message with an id may be a repetition of an accepted one: its conversation knows, and counts again.
        if refused is None and isinstance(message, UserMessage) and message.message_id is None and self._load.full:
            refused = too_much(self._load)
        if refused is None:
            refused = self._held_back(message)
        if refused is not None:
            answer(refused)
            return
        try:
            submit = self._prepare(message, answer)
        except PlanRefused as problem:
            answer(Refused(code="invalid_plan", detail=str(problem), problems=problem.problems))
            return
        self._deliver(message.conversation_id, submit)

    def resume_unfinished(
        self, conversation_ids: Iterable[str], quarantined: dict[str, str], held: Collection[str] = ()
    ) -> None:
        """Wake what had work running when the last daemon ended, but for those `held` back: they are woken later.

        `quarantined` ones are woken only to be set aside, with why.
        """
        conversation_ids = list(conversation_ids)
        self._load.expect(conversation_ids)
        self._table.held.update(held)
        self._table.unresumed.update(quarantined)
        resumed = {cid: None for cid in conversation_ids if cid not in quarantined and cid not in held}
        self._table.unresumed.update(resumed)
        if self._table.unresumed:
            self._conversations.tell(ResumeSome(WOKEN_AT_ONCE))

    def wake(self, conversation_ids: Iterable[str]) -> None:
        """Wake those that are not awake, some at a time; whatever becomes of the parent of all meanwhile."""
        woken = dict.fromkeys(conversation_ids)
        self._table.held.difference_update(woken)
        self._table.unresumed.update(woken)
        self._conversations.tell(ResumeSome(WOKEN_AT_ONCE))

    def reconfigure(self, parts: Parts, passivate_after: float) -> None:
        """Use this for conversations that wake from now on."""
        self._table.parts, self._table.passivate_after = parts, passivate_after  # for a life that is still to begin
        self._conversations.tell(Reconfigure(parts, passivate_after))

    def supervise(self, job: ChildPlan) -> None:
        """Let the root start something more, and keep it running."""
        self._system.tell(self._root, AddChild(job))

    def sweep(self) -> None:
        """Look for idle conversations now instead of at the next regular time."""
        self._conversations.tell(Sweep())

    def held(self) -> frozenset[str]:
        """Return the conversations that are held back until others were tried."""
        return frozenset(self._table.held.copy())

    def live(self) -> int:
        """Return how many conversations are awake."""
        return len(self._live)

    def working(self) -> int:
        """Return how many conversations have something running or not yet durable."""
        count = 0
        for record in list(self._live.values()):
            actor = None if record.ref is None else record.ref._actor_weakref()  # noqa: SLF001  # a plain read
            count += record.ref is None or (actor is not None and actor.working)
        return count

    def _held_back(self, message: UserMessage | Cancel | Pause | Resume) -> Refused | None:
        """Clients repeat a message when the daemon died: it must not take up what may have killed it, beside others."""
        conversation_id = message.conversation_id
        if conversation_id not in self._table.held:
            return None
        if isinstance(message, (Cancel, Pause)):  # ends what may do harm, before it begins again
            self._table.held.discard(conversation_id)
            return None
        return held_back(conversation_id)

    def _deliver(self, conversation_id: str, submit: Submit) -> None:
        record = self._live.get(conversation_id)
        ref = None if record is None else record.ref
        if ref is not None:
            try:
                if not self._system.offer(ref, submit):
                    submit.answer(mailbox_full(conversation_id))
            except ActorDeadError:
                ref = None
        if ref is None and not self._conversations.tell(Wake(conversation_id, submit)):
            submit.answer(mailbox_full(conversation_id))

    def _prepare(self, message: UserMessage | Cancel | Pause | Resume, answer: Callable[[Answer], None]) -> Submit:
        if not isinstance(message, UserMessage):
            return Submit(message, answer)
        plan = None if message.plan is None else self._check_plan(message.plan)
        return Submit(
            message,
            answer,
            message_id=message.message_id or self._new_id(),
            request_id=self._new_id(),
            plan=plan,
            fingerprint=fingerprint(message),
        )


def fingerprint(message: UserMessage) -> str:
    """Return a hash of what a message says, for telling a repetition from a conflict."""
    said = message.__pydantic_serializer__.to_json(message, include=_SAID)
    return hashlib.sha256(said).hexdigest()[:32]


_SAID = {"text", "user_id", "plan", "busy_policy"}
