"""One life of the daemon: the real router, supervisors and actors over a simulated world, from boot to crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.agent import AgentActor
from actors.planner import PlannerActor
from actors.synthesizer import SynthesizerActor
from actors.system import ActorSystem
from conversation.load import Load
from conversation.parts import Parts, RestartPolicy
from messages.inbound import Refused
from messages.plan import Plan, ResolvedPlan
from persistence.contract import DeadLetterRow
from persistence.memory_store import MemoryStore
from router import Router
from simulation.scheduler import SimulatedDispatcher
from simulation.script import REGISTRY
from simulation.sim_execution import SimExecution
from simulation.sim_store import ShiftedStore, SimReader, SimWriter
from simulation.virtual_time import VirtualTimers
from supervision.backoff import Backoff
from supervision.spec import ChildSpec, RestartType
from supervision.suspects import triage
from trials import Trials
from workflow.memory import MemoryLimits
from workflow.step import Limits

if TYPE_CHECKING:
    from simulation.world import World

_BACKOFF = Backoff(min_backoff=0.5, max_backoff=8.0, factor=2.0, random_factor=0.2)


class Life:
    """What `daemon.Daemon` is in production."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.dead = False
        self.lost = False
        """Another daemon has taken the store over."""
        self.published: dict[str, int] = {}
        self.broken: set[str] = set()
        """Conversations of which a step could not be stored: what followed on it is refused."""
        self.store = MemoryStore(world.disk)
        self.store.open(f"life {number}")
        recoveries = self.store.count_recoveries()
        unfinished = self.store.unfinished()
        world.ledger.booted(recoveries, unfinished)
        self.writer = SimWriter(self)
        self.reader = SimReader(self)
        self.execution = SimExecution(self)
        self.system = ActorSystem(
            dispatcher=SimulatedDispatcher(world, self),
            clock=world.clock,
            timers=VirtualTimers(world.agenda, self),
            log=self.log,
            mailbox_limit=world.mailbox_limit,
        )
        self.system.dead_letters.listen(self._keep_dead_letter)
        self.writer.start()
        self.load = Load(world.max_unfinished)
        self.router = Router(
            self.system,
            self._parts(),
            check_plan=self._check_plan,
            passivate_after=world.passivate_after,
            admits=self._admits,
            new_id=world.new_id,
            on_failed=lambda _error: world.gave_up(self),
        )
        found = triage(recoveries, world.quarantine_after)
        quarantined = {name: f"resumed {recoveries[name]} times in a row" for name in found.quarantined}
        world.note(f"daemon {number} boots, unfinished: {', '.join(unfinished) or 'none'}")
        if unfinished:
            world.saw("branch: unfinished work resumed at boot")
        if found.held:
            world.saw("branch: held back until others were tried")
        trials = Trials(
            ShiftedStore(self),  # type: ignore[arg-type]  # nothing else of a store is asked
            self.reader,  # type: ignore[arg-type]  # as above
            self.system,
            wake=self.router.wake,
            is_unfinished=self.load.is_unfinished,
            log=self.log,
        )
        trials.begin(found, recoveries, world.quarantine_after)
        self.router.resume_unfinished(unfinished, quarantined, found.held)

    def _parts(self) -> Parts:
        world, execution = self.world, self.execution
        return Parts(
            reader=self.reader,
            submit=self._submit,
            when_decided=self.writer.when_decided,
            publish=self._publish,
            children={
                "planner": (PlannerActor, (execution, world.plan, 5.0)),
                "agent": (AgentActor, (execution, REGISTRY, self.reader)),
                "synthesizer": (SynthesizerActor, (execution, world.synthesize, 5.0)),
            },
            policy=self._policy,
            random=world.chance.random,
            quick=execution.quick if world.chance.random() < 0.7 else None,
            compose=world.synthesize if world.chance.random() < 0.4 else None,
            limits=Limits(max_replans=world.max_replans, request_timeout=world.request_timeout),
            memory_limits=MemoryLimits(max_context_tokens=5000, recent_messages=100),
            snapshot_every=world.snapshot_every,
            queue_limit=20,
            load=self.load,
        )

    def _policy(self, role: str, agent: str) -> RestartPolicy:
        return RestartPolicy(ChildSpec(id=role, restart=RestartType.TRANSIENT, backoff=_BACKOFF, max_restarts=2))

    def _check_plan(self, plan: Plan) -> ResolvedPlan:
        assert plan.nodes is not None
        return self.world.client_plans[plan.nodes[0].task]

    def _admits(self) -> Refused | None:
        if self.writer.available:
            return None
        return Refused(code="store_unavailable", detail=str(self.writer.last_error), retry_after=2.0)

    # Heard

    def _submit(self, append: Any, done: Any) -> None:
        if self.world.story is not None:
            self.world.note(f"writes {append.conversation_id}@{append.last_seq} ({append.phase})")
        self.writer.submit(append, done)

    def _publish(self, events: Any) -> None:
        """Check that what leaves is durable, and leaves in order."""
        demand = self.world.demand
        for event in events:
            if event.seq == 0:
                self.world.saw("branch: progress passed on")
                continue
            talk = self.world.ledger.of(event.conversation_id)
            demand(event.seq <= talk.seq, "acts on durable states only", f"{event.type} {event.seq} left too early")
            before = self.published.get(event.conversation_id, 0)
            demand(event.seq > before, "published in order", f"{event.seq} after {before}")
            self.published[event.conversation_id] = event.seq

    def ownership_lost(self, _reason: str) -> None:
        self.world.saw("branch: ownership lost")
        self.lost = True
        self.world.note(f"daemon {self.number} has lost the store")

    def late(self, name: str, outcome: Any) -> None:
        self.system.dead_letters.add(name, "its attempt had been given up", outcome)

    def log(self, event: str, /, *, level: str | None = None, **fields: Any) -> None:
        world = self.world
        world.seen["log: " + event] += 1
        if world.story is not None and event in _TOLD:
            shown = (fields.get(key) for key in _SHOWN)
            world.note(" ".join((event, *(str(value) for value in shown if value is not None))))

    def _keep_dead_letter(self, letter: Any) -> None:
        self.world.saw("branch: dead letter")
        if self.world.story is not None:
            self.world.note(f"dead letter {type(letter.message).__name__} ({letter.reason[:60]})")
        self.writer.submit_row(
            DeadLetterRow(letter.at_ms, letter.address, letter.reason, type(letter.message).__name__, b"null")
        )


_TOLD = frozenset({"actor_started", "actor_stopped", "actor_crashed", "state_transition", "agent_call", "reply_sent"})
_SHOWN = ("path", "actor", "node_id", "agent", "attempt", "success", "error_type", "from_state", "to_state", "status")
