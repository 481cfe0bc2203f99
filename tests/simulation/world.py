"""The loop: who runs or what happens next, by the seed; first there is trouble, then it heals and must complete."""

from __future__ import annotations

import hashlib
from collections import Counter
from random import Random
from typing import Any

from actors.base import Actor
from messages.conversation import Submit
from messages.inbound import Resume
from persistence.memory_store import MemoryData
from simulation.audit import audit_disk, audit_rest, left_running
from simulation.clients import Clients
from simulation.ledger import Ledger
from simulation.life import Life
from simulation.script import agent_error, random_plan
from simulation.sim_store import StoreFaults
from simulation.story import describe, line
from simulation.trouble import FAULTS, bring
from simulation.virtual_time import Agenda, VirtualClock
from supervisor import Supervisor

HOUR = 3600.0


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, seed: int, rule: str, detail: str) -> None:
        super().__init__(f"seed {seed}: {rule}: {detail}")
        self.seed = seed
        self.rule = rule
        self.detail = detail


class World:
    """One run. The same seed gives the same run, in any process."""

    def __init__(self, seed: int, *, story: bool = False) -> None:
        self.seed = seed
        self.chance = chance = Random(seed)
        self.story: list[str] | None = [] if story else None
        self._effects: list[str] = []
        self.seen: Counter[str] = Counter()
        self.violation: Violation | None = None
        self.clock = VirtualClock()
        self.agenda = Agenda(self.clock)
        self.runnable: list[tuple[Life, Any]] = []
        self.disk = MemoryData()
        self.faults = StoreFaults()
        self.ledger = Ledger(self)
        self.client_plans: dict[str, Any] = {}
        self.life: Life | None = None
        self.others: list[Life] = []
        """Daemons that another one has taken the store from."""
        self._lives = 0
        self._ids = 0
        self.steps = 0
        self.healed = False
        self.clock_was_set = False
        self._quiet = False
        # What this run is like: each kind of trouble is off in many runs, so that the others have room.
        self.agent_faults = chance.choice((0.0, 0.2, 0.35, 0.6))
        self.planner_faults = chance.choice((0.0, 0.0, 0.25))
        self.actor_crashes = chance.choice((0.0, 0.0, 0.01, 0.03, 0.08))
        self.promptness = chance.choice((0.95, 0.9, 0.6))
        self.attempt_crashes = chance.choice((0.0, 0.0, 0.05))
        self.max_replans = chance.choice((0, 1, 2))
        self.snapshot_every = chance.choice((3, 10, 100))
        self.quarantine_after = chance.choice((1, 2, 5))
        self.passivate_after = chance.choice((2.0, 10.0))
        self.mailbox_limit = chance.choice((2, 50))
        # Drawn on its own, so that what the seeds found so far mean stays the same.
        apart = Random(~seed)
        self.request_timeout = apart.choice((None, None, None, 2.0, 20.0))
        self.max_unfinished = apart.choice((None, None, 3, 8))
        self.breaker_failures = apart.choice((0, 0, 1, 2, 4))
        self._crash_rates = dict.fromkeys(("agent", "planner", "synthesizer"), self.attempt_crashes)
        self._crash_rates["supervisor"] = self.actor_crashes
        self._crash_rates["router"] = self.actor_crashes * chance.choice((0.0, 0.3, 1.0))
        self._heal_at = chance.randint(40, 260)
        self.clients = Clients(self)
        self._plan: list[tuple[int, str]] = []
        self._draw_troubles()

    def _draw_troubles(self) -> None:
        chance = self.chance
        kinds = [kind for kind in FAULTS if chance.random() < 0.5]
        times = sorted(chance.randint(1, self._heal_at) for _ in range(chance.choice((0, 2, 4, 7)) if kinds else 0))
        self._plan = [(step, chance.choice(kinds)) for step in times]

    # The run

    def run(self) -> None:
        """Play it to its end. Raises `Violation`."""
        try:
            self.boot()
            deadline = 10 * HOUR
            while self.ledger.open or self.clients.waiting or not self.healed or self.life is None:
                if not self.healed and self.steps >= self._heal_at:
                    self._heal()
                    deadline = self.clock.now + HOUR
                self.step()
                if self.clock.now > deadline:
                    self.demand(False, "liveness", f"{self.ledger.open} messages without a reply after an hour")
                if self.violation is not None:
                    raise self.violation
            self._come_to_rest()
            audit_disk(self)
            audit_rest(self)
            if self.violation is not None:
                raise self.violation
        finally:
            if self.story is not None and self._effects:
                self._tell("", "")

    def _come_to_rest(self) -> None:
        deadline = self.clock.now + 400.0
        while True:
            self.step()
            left = left_running(self) if not self.runnable else ["an actor has work"]
            if self.violation is not None:
                raise self.violation
            if not left:
                return
            if self.clock.now > deadline:
                self.demand(False, "nothing is left running", ", ".join(left))

    def step(self) -> None:
        """Let one actor take one message, or one thing happen."""
        self.steps += 1
        while self._plan and self._plan[0][0] <= self.steps and not self.healed and not self._quiet:
            _, kind = self._plan.pop(0)
            if not bring(self, kind):
                self._plan.insert(0, (self.steps + 1, kind))
        runnable = self.runnable
        due = self.agenda.next_due()
        if runnable and (
            due is None
            or due > self.clock.now + (0.01 if self._quiet else 1.0)
            or self.chance.random() < self.promptness
        ):
            index = int(self.chance.random() * len(runnable))
            life, actor = runnable[index]
            runnable[index] = runnable[-1]
            runnable.pop()
            self._run_actor(life, actor)
            return
        happening = self.agenda.pop()
        if happening is None:
            self.demand(False, "liveness", "nothing can ever happen again")
            return
        what, handle = happening
        call, handle.callback = handle.callback, None
        if call is not None:
            call()
        if self.story is not None:
            self._tell(what, "")

    def _run_actor(self, life: Life, actor: Actor) -> None:
        said = ""
        if self.story is not None:
            said = describe(actor)
        crash = not self._quiet and self.unlucky(self._crash_rates.get(actor.kind, 0.0))
        if crash:
            self._arm(actor)
        if actor.run_batch(1):
            self.runnable.append((life, actor))
        if crash:
            actor.__dict__.pop("on_receive", None)
            actor.__dict__.pop("tell_core", None)
        if self.story is not None:
            self._tell(actor.path, said)

    def _arm(self, actor: Actor) -> None:
        """Let the actor raise at its next message: before it has handled it, in the core, or after."""
        _, error = agent_error(self.chance)
        when = self.chance.choice(("before", "in the core", "after"))

        def crash(*_args: Any) -> None:
            self.saw(f"fault: crash in {actor.kind}, {when}")
            raise error

        def on_receive(message: Any) -> None:
            # What an actor fails on before it has looked at it is gone: of a message that is a refusal nobody hears.
            handed_on = getattr(message, "submit", None) is not None or getattr(message, "mailbox", None) is not None
            if when == "before" and not isinstance(message, Submit) and not handed_on:
                crash()
            type(actor).on_receive(actor, message)
            # Handing a message on is the last thing that the parent of all supervisors does with it.
            if when == "after" and not handed_on:
                crash()

        if when == "in the core" and isinstance(actor, Supervisor):
            actor.__dict__["tell_core"] = crash
        else:
            actor.__dict__["on_receive"] = on_receive

    # Lives

    def boot(self) -> None:
        if self._lives:
            audit_disk(self)
        self._lives += 1
        self.life = Life(self, self._lives)

    def kill(self, life: Life) -> None:
        life.dead = True
        self.runnable = [(whose, actor) for whose, actor in self.runnable if whose is not life]
        self.note(f"daemon {life.number} is gone")
        if life is self.life:
            self.life = None
            self.agenda.add(self.chance.random() * 2.0, None, "boot", self.boot)
        else:
            self.others.remove(life)
        self.clients.after_crash()

    def gave_up(self, life: Life) -> None:
        """Nothing of a daemon can be reached any more, so it ends itself."""
        self.saw("branch: the root gave up")
        if not life.dead:
            self.kill(life)

    def take_over(self) -> None:
        old = self.life
        assert old is not None
        self.others.append(old)
        self.boot()
        end = self.chance.random() * self.chance.choice((0.05, 3.0))
        self.agenda.add(end, old, "the old daemon ends", lambda: self.kill(old))

    def stop_orderly(self) -> None:
        life = self.life
        assert life is not None
        life.router.draining = True
        self._quiet = True
        left = life.system.stop(2.0)
        self._quiet = False
        self.demand(not left, "stops on time", ", ".join(left))
        life.writer.stop(5.0)
        life.store.close()
        if not life.dead:  # its root may have given up while it was stopped
            self.kill(life)

    # The end of trouble

    def _heal(self) -> None:
        self.healed = True
        self.faults.heal()
        self.note("HEALED")
        audit_disk(self)
        for life in list(self.others):
            self.kill(life)
        self._nudge()

    def _nudge(self) -> None:
        """A person lets go on what was paused, put aside, or waits for approval."""
        for talk in self.ledger.conversations.values():
            if talk.waiting and talk.phase in ("paused", "awaiting_approval"):
                self.clients.control(Resume(conversation_id=talk.conversation_id))
        self.agenda.add(5.0, None, "nudge", self._nudge)

    # For the parts

    def plan(self, draft: Any) -> Any:
        """Think up a plan, or fail."""
        if self.unlucky(self.planner_faults):
            self.saw("fault: planner fails")
            raise agent_error(self.chance)[1]
        return random_plan(self.chance)

    def synthesize(self, order: Any) -> str:
        """Put it into words, or fail."""
        if self.unlucky(self.planner_faults):
            self.saw("fault: synthesizer fails")
            raise agent_error(self.chance)[1]
        return "done"

    def unlucky(self, probability: float) -> bool:
        return not self.healed and probability > 0.0 and self.chance.random() < probability

    def latency(self) -> float:
        """Seconds the store takes for something."""
        slow = self.clock.now < self.faults.slow_until
        return self.chance.random() * (1.0 if slow else 0.01)

    def new_id(self) -> str:
        self._ids += 1
        return f"r{self._ids}"

    def policy_of(self, conversation_id: str, message_id: str) -> str:
        return self.clients.policies[conversation_id, message_id]

    def saw(self, what: str) -> None:
        self.seen[what] += 1

    def demand(self, holds: bool, rule: str, detail: str) -> None:
        """Remember the first rule that does not hold; the loop raises it, for actors would contain it."""
        if not holds and self.violation is None:
            self.violation = Violation(self.seed, rule, detail)
            self.note(f"VIOLATION: {rule}: {detail}")

    # The story

    def note(self, text: str) -> None:
        if self.story is not None:
            self._effects.append(text)

    def _tell(self, who: str, said: str) -> None:
        assert self.story is not None
        self.story.append(line(self.clock.now, who, said, self._effects))
        self._effects = []

    @property
    def trace_hash(self) -> str:
        """Of the whole story: two runs with the same hash did the same in the same order."""
        return hashlib.sha256("\n".join(self.story or ()).encode()).hexdigest()[:16]
