"""The people outside: they ask, repeat themselves, cancel, pause and resume; they remember what they were told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from messages.inbound import Accepted, Cancel, Pause, Refused, Resume, UserMessage
from messages.plan import Plan, PlanNode
from simulation.script import random_plan

if TYPE_CHECKING:
    from simulation.world import World

_AGAIN = {"store_unavailable", "mailbox_full", "draining", "held_back"}
"""Refusals after which the same message is sent again."""


@dataclass
class Ask:
    """One message somebody wants answered."""

    body: UserMessage
    first: Accepted | None = None
    refused: str | None = None
    new: int = 0
    """Times it was accepted as new."""

    @property
    def settled(self) -> bool:
        return self.first is not None or self.refused is not None


@dataclass
class Pending:
    """One delivery on its way."""

    life: Any
    ask: Ask | None
    impostor: bool = False
    answers: int = 0
    what: str = ""


class Clients:
    """All of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._demand = world.demand
        self.asks: list[Ask] = []
        self.pending: list[Pending] = []
        self.policies: dict[tuple[str, str], str] = {}
        chance = world.chance
        for number in range(chance.choice((1, 1, 2, 2, 3))):
            self._invent(f"c{number}")

    def _invent(self, conversation_id: str) -> None:
        world, chance = self._world, self._world.chance
        at = chance.random()
        for number in range(chance.choice((1, 2, 2, 3, 4))):
            message_id = f"{conversation_id}m{number}"
            policy = chance.choice((None, None, None, "enqueue", "reject", "interrupt", "rollback"))
            plan = None
            if chance.random() < 0.2:
                resolved = random_plan(chance)
                if resolved.nodes:
                    world.client_plans[message_id] = resolved.changed(origin="client")
                    plan = Plan(nodes=[PlanNode(id="a", agent="echo", task=message_id)])
            body = UserMessage(
                conversation_id=conversation_id,
                text=f"<{message_id}>",
                message_id=message_id,
                busy_policy=policy,
                plan=plan,
            )
            ask = Ask(body)
            self.asks.append(ask)
            self.policies[conversation_id, message_id] = policy or "enqueue"
            self._later(at, lambda ask=ask: self.send(ask))
            if chance.random() < 0.4:
                self._later(at + chance.random() * chance.choice((0.01, 5.0)), lambda ask=ask: self.repeat(ask))
            at += chance.random() * chance.choice((0.01, 1.0, 4.0))
        for _ in range(chance.choice((0, 0, 1, 2))):
            kind = chance.choice((Cancel, Pause, Pause))
            self._later(chance.random() * 6, lambda kind=kind: self.control(kind(conversation_id=conversation_id)))
        if chance.random() < 0.5:
            self._later(chance.random() * 12, lambda: self.control(Resume(conversation_id=conversation_id)))

    def _later(self, delay: float, call: Any) -> None:
        self._world.agenda.add(delay, None, "client", call)

    @property
    def waiting(self) -> bool:
        """Whether anybody waits to hear that a message was taken."""
        return not all(ask.settled for ask in self.asks)

    # Sending

    def send(self, ask: Ask, *, impostor: bool = False) -> None:
        life = self._world.life
        if life is None:
            self._later(0.5, lambda: self.send(ask, impostor=impostor))
            return
        body = ask.body.model_copy(update={"text": "something else"}) if impostor else ask.body
        pending = Pending(life, ask, impostor, what=f"{body.message_id}")
        self.pending.append(pending)
        self._world.note(f"sends {body.message_id}{' with another body' if impostor else ''}")
        life.router.submit(body, lambda answer: self._heard(pending, answer))

    def repeat(self, ask: Ask) -> None:
        """Send it again, or another message under its id."""
        impostor = ask.first is not None and self._world.chance.random() < 0.4
        self._world.saw("branch: same id, another body" if impostor else "branch: repeated message")
        self.send(ask, impostor=impostor)

    def control(self, message: Any) -> None:
        life = self._world.life
        if life is None:
            return
        pending = Pending(life, None, what=message.type)
        self.pending.append(pending)
        self._world.saw(f"branch: {message.type}")
        self._world.note(f"sends {message.type} to {message.conversation_id}")
        life.router.submit(message, lambda answer: self._heard(pending, answer))

    def after_crash(self) -> None:
        """Whoever had heard nothing sends again."""
        for pending in self.pending:
            ask = pending.ask
            if pending.life.dead and not pending.answers and ask is not None and not ask.settled:
                self._later(self._world.chance.random() * 2.0, lambda ask=ask: self.send(ask))
        self.pending = [pending for pending in self.pending if not pending.life.dead]

    # Hearing

    def _heard(self, pending: Pending, answer: Accepted | Refused) -> None:
        pending.answers += 1
        self._demand(pending.answers == 1, "answered once", f"{pending.what} heard {pending.answers} answers")
        self._world.note(f"answer to {pending.what}: {_said(answer)}")
        if isinstance(answer, Refused):
            self._world.saw(f"answer: {answer.code}")
            self._refused(pending, answer)
        elif pending.ask is None:
            durable = self._world.ledger.of(answer.conversation_id).seq >= answer.seq
            self._demand(durable, "nothing is answered before it is durable", pending.what)
        else:
            self._accepted(pending, pending.ask, answer)

    def _refused(self, pending: Pending, answer: Refused) -> None:
        if answer.code == "mailbox_full" and "unfinished" in answer.detail:
            self._world.saw("branch: refused, too much is unfinished")
        demand, ask = self._demand, pending.ask
        if ask is None:
            demand(answer.code in _AGAIN | {"wrong_state", "not_found"}, "answers", f"{pending.what}: {answer.code}")
        elif answer.code in _AGAIN:
            if not ask.settled:
                self._later(answer.retry_after or 1.0, lambda: self.send(ask))
        elif answer.code == "message_id_conflict":
            demand(pending.impostor, "duplicates", f"{pending.what} is told it conflicts with itself")
        else:
            demand(answer.code == "conversation_busy", "answers", f"{pending.what}: {answer.code}: {answer.detail}")
            demand(ask.body.busy_policy == "reject", "busy policy", f"{pending.what} was rejected")
            ask.refused = answer.code

    def _accepted(self, pending: Pending, ask: Ask, answer: Accepted) -> None:
        demand = self._demand
        demand(not pending.impostor, "duplicates", f"{pending.what} with another body was accepted")
        record = self._world.ledger.of(ask.body.conversation_id).by_message.get(ask.body.message_id or "")
        durable = record is not None and record.seq == answer.seq and record.request_id == answer.request_id
        demand(durable, "nothing is answered before it is durable", f"{pending.what} was acknowledged")
        if record is not None and answer.reply_seq is not None:
            demand(record.reply_seq == answer.reply_seq, "nothing is answered before it is durable", pending.what)
        ask.new += not answer.duplicate
        demand(ask.new <= 1, "duplicates", f"{pending.what} was accepted as new twice")
        if answer.duplicate:
            self._world.saw("branch: told it is a duplicate")
        if ask.first is not None:
            same = (ask.first.request_id, ask.first.seq) == (answer.request_id, answer.seq)
            demand(same, "duplicates", f"{pending.what} got another answer than before")
        ask.first = answer


def _said(answer: Accepted | Refused) -> str:
    if isinstance(answer, Refused):
        return f"refused, {answer.code}"
    return f"accepted as {answer.request_id}@{answer.seq}" + (" (duplicate)" if answer.duplicate else "")
