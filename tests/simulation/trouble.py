"""What can go wrong with a daemon and its store, and how it is brought about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from messages.lifecycle import Crash, Passivate

if TYPE_CHECKING:
    from simulation.life import Life
    from simulation.world import World

FAULTS = (
    "kill",
    "kill",
    "orderly stop",
    "second daemon",
    "store away",
    "store slow",
    "answers lost",
    "poisoned row",
    "reads fail",
    "clock forward",
    "clock back",
    "sweep",
    "passivate",
    "restart a supervisor",
    "restart an attempt",
)
"""Agents, planner, synthesizer and actors fail by themselves: see script.py and `World._arm`."""


def bring(world: World, kind: str) -> bool:
    """Let this happen now; False when it should come later, to do harm."""
    life = world.life
    if life is None or (kind == "clock back" and not _backing_off(world) and world.chance.random() < 0.98):
        return False
    world.saw(f"fault: {kind}")
    world.note(f"TROUBLE: {kind}")
    if kind == "kill":
        if life.writer.busy:
            world.saw("fault: power lost during a commit")
        world.kill(life)
    elif kind == "orderly stop":
        world.stop_orderly()
    elif kind == "second daemon":
        world.take_over()
    elif kind.startswith("clock"):
        world.clock_was_set = True
        seconds = world.chance.choice((1.0, 60.0, 90_000.0, 90_000.0))
        world.clock.jump(seconds if kind == "clock forward" else -seconds)
    elif kind == "sweep":
        life.router.sweep()
    elif not _spoil_store(world, kind):
        _tell_somebody(world, life, kind)
    return True


def _backing_off(world: World) -> bool:
    """Return whether anything waits for a time of the wall clock."""
    for talk in world.ledger.conversations.values():
        for request in talk.waiting[:1]:
            if request.trying or any(node.status == "backing_off" for node in request.nodes.values()):
                return True
    return False


def _spoil_store(world: World, kind: str) -> bool:
    chance, faults, now = world.chance, world.faults, world.clock.now
    match kind:
        case "store away":
            faults.away_until = now + chance.random() * chance.choice((0.1, 6.0))
        case "store slow":
            faults.slow_until = now + chance.random() * 5.0
        case "answers lost":
            faults.lose_answers += chance.choice((1, 3))
        case "poisoned row":
            faults.poison += chance.choice((1, 1, 2))
        case "reads fail":
            faults.unreadable_until = now + chance.random() * 2.0
        case _:
            return False
    return True


def _tell_somebody(world: World, life: Life, kind: str) -> None:
    attempts = kind == "restart an attempt"
    refs = [
        actor.actor_ref
        for actor in life.system._actors.values()
        if (actor.kind == "supervisor") != attempts and actor.kind != "router"
    ]
    if refs:
        life.system.tell(world.chance.choice(refs), Passivate() if kind == "passivate" else Crash(by="somebody"))
