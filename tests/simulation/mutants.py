"""Deliberate defects, planted one at a time: what the simulator must be able to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import actors.breakers
import conversation.children
import conversation.journal
import supervision.breaker
import supervision.decide
import workflow.decide
import workflow.evolve
import workflow.onward
from actors.breakers import CircuitOpen
from actors.call import Call
from actors.gate import Gate
from actors.quick import QuickEnded
from conversation.children import Children
from conversation.reception import Reception
from conversations import Conversations
from messages.agent import NodeResult
from messages.events import MessageAccepted, NodeFailed, NodeStarted, ReplySent
from persistence.contract import Committed
from persistence.memory_store import MemoryStore
from persistence.writer_intake import Intake
from router import Router
from simulation.world import Violation, World
from supervision.breaker import Breaker, Health
from supervisor import FromStore, Supervisor
from workflow.memory import Memory
from workflow.state import NodeStatus

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """One defect."""

    name: str
    patches: Callable[[], list[Patch]]
    """(owner, name, what stands there instead), made anew for each use."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Let the defect be there for a while."""
        patches = self.patches()
        olds = [(owner, name, _get(owner, name)) for owner, name, _ in patches]
        for owner, name, value in patches:
            _put(owner, name, value)
        try:
            yield
        finally:
            for owner, name, value in olds:
                _put(owner, name, value)


def _get(owner: Any, name: Any) -> Any:
    return owner[name] if isinstance(owner, dict) else owner.__dict__[name]


def _put(owner: Any, name: Any, value: Any) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)


MUTANTS: list[Mutant] = []


def find(defect: Mutant, budget: int, first: int = 0) -> tuple[int, str] | None:
    """Return a seed below `budget` that shows the defect, and the invariant it breaks; None if none does.

    It is the lowest one from `first` on, where it may be known to be; else the lowest of those before.
    """
    with defect.planted():
        for seed in (*range(first, budget), *range(min(first, budget))):
            try:
                World(seed).run()
            except Violation as violation:
                return seed, violation.rule
            except Exception as error:  # noqa: BLE001  # a run that breaks down has found it as well
                return seed, f"the run breaks down: {type(error).__name__}"
    return None


def mutant(name: str) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    """Enter a defect under this name."""

    def enter(patches: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        MUTANTS.append(Mutant(name, patches))
        return patches

    return enter


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """Stand for what is left undone."""


def _after(owner: Any, name: Any, more: Callable[..., Any]) -> list[Patch]:
    """Do what is done, then more; `more` is given the result and the arguments."""
    old = _get(owner, name)

    def both(*args: Any, **kwargs: Any) -> Any:
        result = old(*args, **kwargs)
        return more(result, *args)

    return [(owner, name, both)]


# Durability


@mutant("a message is acknowledged before its step is committed")
def _() -> list[Patch]:
    def early(_result: Any, self: Supervisor, *_args: Any) -> None:
        for step in self._pending:
            for answer, what in step.answers:
                answer(what)
            step.answers.clear()

    return _after(Supervisor, "tell_core", early)


@mutant("children start before their step is committed")
def _() -> list[Patch]:
    def early(_result: Any, self: Supervisor, *_args: Any) -> None:
        for _ in self._crew.reconcile(self.state, self.state, self._memory):
            break

    return _after(Supervisor, "tell_core", early)


@mutant("events are published before their step is committed")
def _() -> list[Patch]:
    def early(_result: Any, self: Supervisor, *_args: Any) -> None:
        if self._pending:
            self._parts.publish(self._pending[-1].events)

    return _after(Supervisor, "tell_core", early)


@mutant("now and then the news of a commit is dropped")
def _() -> list[Patch]:
    old = Supervisor._committed

    def forgetful(self: Supervisor, last_seq: int) -> None:
        if last_seq % 5:
            old(self, last_seq)

    return [(Supervisor, "_committed", forgetful)]


@mutant("an applied step whose answer was lost is taken for a conflict")
def _() -> list[Patch]:
    old = MemoryStore._apply

    def strict(self: MemoryStore, append: Any) -> Any:
        held = self.data.conversations.get(append.conversation_id)
        if held is not None and held.last_seq != append.expected_seq:
            entries, held.entries = held.entries, []
            try:
                return old(self, append)
            finally:
                held.entries = entries
        return old(self, append)

    return [(MemoryStore, "_apply", strict)]


@mutant("the epoch is not checked: two daemons write")
def _() -> list[Patch]:
    return [(MemoryStore, "_check_epoch", _nothing)]


@mutant("a new life reads before the steps of the old one are decided")
def _() -> list[Patch]:
    return [(Intake, "when_decided", lambda _self, _conversation_id, call: call())]


@mutant("a refused step is taken for a committed one")
def _() -> list[Patch]:
    old = Supervisor._take_from_store

    def trusting(self: Supervisor, message: Any) -> None:
        if type(message).__name__ == "AppendRefused":
            message = Committed(message.conversation_id, message.last_seq)
        old(self, message)

    return [(Supervisor, "_take_from_store", trusting)]


def _build_append_with(change: Callable[[Any], Any]) -> list[Patch]:
    old = conversation.journal.build_append
    return [(conversation.journal, "build_append", lambda **fields: change(old(**fields)))]


@mutant("the oldest open message is forgotten")
def _() -> list[Patch]:
    return _build_append_with(lambda append: replace(append, oldest_open_seq=None))


@mutant("a conversation counts as finished while its plan is thought up")
def _() -> list[Patch]:
    return _build_append_with(
        lambda append: replace(append, unfinished=append.unfinished and append.phase != "planning")
    )


@mutant("a rollback leaves what was said in the store")
def _() -> list[Patch]:
    return _build_append_with(lambda append: replace(append, forget=()))


@mutant("taking up again counts as progress, so that nothing is ever put aside")
def _() -> list[Patch]:
    return _build_append_with(lambda append: replace(append, progress=True))


@mutant("progress does not end a row of recoveries")
def _() -> list[Patch]:
    old = MemoryStore._apply
    return [(MemoryStore, "_apply", lambda self, append: old(self, replace(append, progress=False)))]


@mutant("the inbox is not told of replies")
def _() -> list[Patch]:
    return _build_append_with(lambda append: replace(append, replied=()))


def _plain_with(change: Callable[[Any], Any]) -> list[Patch]:
    old = conversation.journal.to_plain
    return [(conversation.journal, "to_plain", lambda state: old(change(state)))]


@mutant("a snapshot loses the queue")
def _() -> list[Patch]:
    return _plain_with(lambda state: state.changed(queue=()))


@mutant("a snapshot loses how often a node has failed")
def _() -> list[Patch]:
    def lossy(state: Any) -> Any:
        request = state.request
        if request is None:
            return state
        nodes = {key: node.changed(failures=0) for key, node in request.nodes.items()}
        return state.changed(request=request.changed(nodes=nodes))

    return _plain_with(lossy)


@mutant("a snapshot loses that a plan was approved")
def _() -> list[Patch]:
    return _plain_with(
        lambda state: state if state.request is None else state.changed(request=state.request.changed(approved=False))
    )


# Lives


@mutant("a restarted supervisor does not get the mailbox of the one before")
def _() -> list[Patch]:
    old = Conversations._revive

    def forgetful(self: Conversations, conversation_id: str, quarantine: str | None = None) -> None:
        record = self._live.get(conversation_id)
        if record is not None:
            record.mailbox = None
        old(self, conversation_id, quarantine)

    return [(Conversations, "_revive", forgetful)]


@mutant("unfinished work is not resumed at boot")
def _() -> list[Patch]:
    return [(Router, "resume_unfinished", _nothing)]


@mutant("those held back until others were tried are never taken up")
def _() -> list[Patch]:
    return [(Router, "wake", _nothing)]


@mutant("a supervisor passivates while it works")
def _() -> list[Patch]:
    return [(Supervisor, "_passivate", lambda self: self.stop_now())]


@mutant("a supervisor that passivates handles what came meanwhile")
def _() -> list[Patch]:
    return [(Supervisor, "_passivate", lambda self: None if self.working or self._crew else self.stop())]


@mutant("what comes after passivation wakes nobody")
def _() -> list[Patch]:
    def forgetful(self: Conversations, stopped: Any) -> None:
        self._live.pop(stopped.path.rpartition("/")[2], None)
        self.discard(stopped.mailbox, stopped.path)

    return [(Conversations, "_stopped", forgetful)]


@mutant("what the store told an earlier life is believed by the next")
def _() -> list[Patch]:
    old = Supervisor.on_receive

    def trusting(self: Supervisor, message: Any) -> None:
        if isinstance(message, FromStore):
            self._take_from_store(message.message)
        else:
            old(self, message)

    return [(Supervisor, "on_receive", trusting)]


@mutant("timers are not set again after waking")
def _() -> list[Patch]:
    old = Children._set_timers

    def forgetful(self: Children, timers: Any, now: int) -> None:
        if self._owner.state.seq == self._owner._snapshot_seq or not self._owner._pending:
            old(self, timers, now)
            return
        self._timers.update({key: timer.due for key, timer in timers.items()})

    return [(Children, "_set_timers", forgetful)]


@mutant("a timer trusts the wall clock")
def _() -> list[Patch]:
    old = Children._set_timers

    def trusting(self: Children, timers: Any, now: int) -> None:
        old(self, {key: replace(timer, delay=10.0**9) for key, timer in timers.items()}, now)

    return [(Children, "_set_timers", trusting)]


@mutant("a planner is due by the wall clock only")
def _() -> list[Patch]:
    return [(Children, "_reached", lambda _self, _state, now: now)]


@mutant("a message on which the core failed is nobody's")
def _() -> list[Patch]:
    old = Reception.close

    def forgetful(self: Reception, refused: Any) -> None:
        self._serving = None
        old(self, refused)

    return [(Reception, "close", forgetful)]


@mutant("nobody is told when a supervisor crashes")
def _() -> list[Patch]:
    return [(Supervisor, "on_failure", _nothing)]


@mutant("children are not stopped when a request is cancelled")
def _() -> list[Patch]:
    return [(Children, "_stop_unwanted", _nothing)]


@mutant("an attempt has no timeout")
def _() -> list[Patch]:
    return [(Call, "_time_out", _nothing)]


@mutant("a call that is over does not leave its place to the next")
def _() -> list[Patch]:
    return [(Gate, "leave", _nothing)]


@mutant("an attempt that takes its time gets no actor")
def _() -> list[Patch]:
    return [(Children, "quick_slow", _nothing)]


@mutant("a supervisor that ends leaves its attempts without an actor running")
def _() -> list[Patch]:
    return [(Children, "abandon", _nothing)]


@mutant("what an actor that died early did not take over goes on running")
def _() -> list[Patch]:
    return [(conversation.children.__dict__, "_over", lambda record: record)]


@mutant("an attempt that fails before it has an actor has not failed")
def _() -> list[Patch]:
    def kind(self: Children, message: QuickEnded) -> Any:
        good = [call for call in message.calls if isinstance(call.outcome, NodeResult)]
        return old(self, QuickEnded(good))

    old = Children.quick_ended
    return [(Children, "quick_ended", kind)]


@mutant("what was cut off is not taken up as a new attempt")
def _() -> list[Patch]:
    return [(workflow.decide.HANDLERS, "recovered", _nothing)]


# Messages from outside


@mutant("message ids are not looked up in the store")
def _() -> list[Patch]:
    return [(Reception, "_look_up", lambda self, submit: self._accept(submit, submit.message))]


@mutant("a repeated id with another body is taken for the same message")
def _() -> list[Patch]:
    old = Reception._repeated
    return [
        (Reception, "_repeated", lambda self, submit, row: old(self, replace(submit, fingerprint=row.fingerprint), row))
    ]


@mutant("a repetition is answered before the first one is durable")
def _() -> list[Patch]:
    return [(Supervisor, "answer_when_durable", lambda _self, _seq, answer, what: answer(what))]


def _accept_as(policy: Callable[[str], str]) -> list[Patch]:
    old = workflow.decide.HANDLERS["accept"]
    return [
        (
            workflow.decide.HANDLERS,
            "accept",
            lambda step, message: old(step, replace(message, busy_policy=policy(message.busy_policy))),
        )
    ]


@mutant("busy policy reject acts as enqueue")
def _() -> list[Patch]:
    return _accept_as(lambda policy: "enqueue" if policy == "reject" else policy)


@mutant("busy policy rollback acts as interrupt")
def _() -> list[Patch]:
    return [(Memory, "forget", lambda self, _request_ids: self)]


@mutant("the last who waits is served first")
def _() -> list[Patch]:
    def upside_down(draft: Any, event: Any) -> None:
        accepted(draft, event)
        draft.change(queue=tuple(reversed(draft.state.queue)))

    accepted = workflow.evolve._EVOLVERS[MessageAccepted]
    return [(workflow.evolve._EVOLVERS, MessageAccepted, upside_down)]


@mutant("now and then a reply is sent twice")
def _() -> list[Patch]:
    old = workflow.evolve._EVOLVERS[ReplySent]

    def again(draft: Any, event: Any) -> None:
        request = draft.state.request
        old(draft, event)
        if draft.state.turns % 3 == 1:
            draft.change(queue=(request, *draft.state.queue))

    return [(workflow.evolve._EVOLVERS, ReplySent, again)]


# The plan


@mutant("results of old attempts are taken")
def _() -> list[Patch]:
    old = workflow.decide._fence_attempt

    def open_gate(step: Any, request_id: str, node_id: str, attempt: int) -> Any:
        request = step.state.request
        if request is not None and request.request_id == request_id and node_id in request.nodes:
            return request.nodes[node_id]
        return old(step, request_id, node_id, attempt)

    return [(workflow.decide, "_fence_attempt", open_gate)]


@mutant("a join starts one dependency too early")
def _() -> list[Patch]:
    old = workflow.onward._Survey

    def eager(nodes: Any) -> Any:
        return old(
            {key: node.changed(spec=node.spec.changed(need=max(0, node.spec.need - 1))) for key, node in nodes.items()}
        )

    return [(workflow.onward, "_Survey", eager)]


@mutant("a join gives up one dependency too early")
def _() -> list[Patch]:
    old = workflow.onward._Survey

    def timid(nodes: Any) -> Any:
        survey = old(nodes)
        lost = (NodeStatus.FAILED, NodeStatus.SKIPPED)
        for key, node in nodes.items():
            gone = any(dep in nodes and nodes[dep].status in lost for dep in node.spec.depends_on)
            if node.status is NodeStatus.PENDING and gone and key not in dict(survey.hopeless):
                survey.hopeless.append((key, "given up"))
        survey.ready = [key for key in survey.ready if key not in dict(survey.hopeless)]
        return survey

    return [(workflow.onward, "_Survey", timid)]


@mutant("no fallback is asked")
def _() -> list[Patch]:
    return [(workflow.onward, "_fallbacks", lambda _request: [])]


@mutant("no new plan is asked for")
def _() -> list[Patch]:
    return [(workflow.onward, "_wants_replan", lambda _step, _request: False)]


@mutant("a branch that must not fail may")
def _() -> list[Patch]:
    return [(workflow.onward, "_doomed_by", lambda _request: None)]


@mutant("missing branches are not disclosed")
def _() -> list[Patch]:
    return [(workflow.onward, "missing_branches", lambda _request, _because="": ())]


@mutant("a retry makes failures forgotten")
def _() -> list[Patch]:
    old = workflow.evolve._EVOLVERS[NodeFailed]

    def forgiving(draft: Any, event: Any) -> None:
        old(draft, event)
        draft.change_node(event.node, failures=0)

    return [(workflow.evolve._EVOLVERS, NodeFailed, forgiving)]


@mutant("a retry has the number of the attempt before")
def _() -> list[Patch]:
    old = workflow.evolve._EVOLVERS[NodeStarted]

    def stuck(draft: Any, event: Any) -> None:
        old(draft, event)
        draft.change_node(event.node, attempts=1)

    return [(workflow.evolve._EVOLVERS, NodeStarted, stuck)]


@mutant("Retry-After is ignored")
def _() -> list[Patch]:
    old = supervision.decide._restart

    def hasty(spec: Any, failure: Any, k: int, jitter: float) -> Any:
        return old(spec, None if failure is None else replace(failure, retry_after=None), k, jitter)

    return [(supervision.decide, "_restart", hasty)]


@mutant("permanent errors are retried")
def _() -> list[Patch]:
    return [(supervision.decide, "_not_worth_a_retry", _nothing)]


@mutant("a retry does not wait")
def _() -> list[Patch]:
    old = Children._set_timers

    def hasty(self: Children, timers: Any, now: int) -> None:
        old(self, {key: replace(timer, delay=0.0) for key, timer in timers.items()}, now)

    return [(Children, "_set_timers", hasty)]


@mutant("a pause is neither recorded nor answered")
def _() -> list[Patch]:
    return [(workflow.decide.HANDLERS, "pause", _nothing)]


@mutant("a lost result is taken for none at waking")
def _() -> list[Patch]:
    old = MemoryStore.load
    return [
        (
            MemoryStore,
            "load",
            lambda self, key, *, recent, whole=False: replace(old(self, key, recent=recent, whole=whole), results=()),
        )
    ]


# Breakers


@mutant("an open breaker lets every call through")
def _() -> list[Patch]:
    return [
        (actors.breakers, "left", lambda _breaker, _now: 0.0),
        (actors.breakers, "admit", lambda given, _now: given),
    ]


@mutant("of an agent that is tried out any number of calls is made at once")
def _() -> list[Patch]:
    old = supervision.breaker.admit

    def crowded(given: Breaker, now: float) -> Breaker | None:
        after = old(given, now)
        return after if after is None else replace(after, probing=False)

    return [(actors.breakers, "admit", crowded)]


@mutant("a try that says nothing is the last one")
def _() -> list[Patch]:
    old = supervision.breaker.report

    def final(given: Breaker, spec: Any, era: int, said: Health, now: float) -> Breaker:
        return given if said is Health.NOTHING else old(given, spec, era, said, now)

    return [(actors.breakers, "report", final)]


@mutant("a refusal does not say when to come again")
def _() -> list[Patch]:
    def silent(_result: None, self: CircuitOpen, *_args: Any) -> None:
        self.retry_after = None  # type: ignore[assignment]  # the defect

    return _after(CircuitOpen, "__init__", silent)
