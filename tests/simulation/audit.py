"""What must be true of the disk at every boot, and of everything at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation.journal import wake
from persistence.history import read_events
from persistence.memory_store import MemoryStore
from workflow.evolve import fold
from workflow.state import State

if TYPE_CHECKING:
    from simulation.world import World


def audit_disk(world: World) -> None:
    """The journal has no holes, and waking gives what all its events fold to."""
    store = MemoryStore(world.disk)
    for conversation_id, talk in world.ledger.conversations.items():
        if talk.seq == 0:
            continue
        events = read_events(store, conversation_id, after=0, limit=1_000_000)
        seqs = [event.seq for event in events]
        world.demand(seqs == list(range(1, talk.seq + 1)), "sequence", f"{conversation_id}: a hole in the journal")
        woken = wake(store.load(conversation_id, recent=100_000))
        folded = fold(State(conversation_id), events)
        world.demand(woken.state == folded, "waking equals folding", f"{conversation_id} wakes as something else")
        again = wake(store.load(conversation_id, recent=100_000, whole=True))
        world.demand(again.state == folded, "the journal replaces a snapshot", f"{conversation_id} wakes otherwise")
        world.demand(woken.state.phase == talk.phase, "waking equals folding", f"{conversation_id}: phase")


def audit_rest(world: World) -> None:
    """At the end: everything is answered, stored as it was said, and nothing is left running."""
    store = MemoryStore(world.disk)
    demand = world.demand
    for conversation_id, talk in world.ledger.conversations.items():
        rows = {(row.seq, row.role): row for row in store.memory(conversation_id, first_seq=1, last_seq=talk.seq)}
        stored = {(row.request_id, row.node): row for row in store.results(conversation_id, list(talk.requests))}
        for request in talk.requests.values():
            demand(request.reply is not None, "one reply", f"{request.message_id} was never answered")
            if request.reply is None:
                continue
            row = store.find_message(conversation_id, request.message_id)
            right = row is not None and (row.seq, row.reply_seq) == (request.seq, request.reply_seq)
            demand(right, "inbox", f"{request.message_id}: {row}")
            said, answered = rows.get((request.seq, "user")), rows.get((request.reply_seq, "assistant"))
            gone = request.reply.get("forgotten", False)
            kept = said is not None and answered is not None and said.forgotten == answered.forgotten == gone
            demand(kept, "memory", f"{request.message_id}: what was said is not stored, or wrongly forgotten")
            for name, node in request.nodes.items():
                if node.status != "succeeded":
                    continue
                result = stored.get((request.request_id, name))
                expected = f'"{request.request_id}/{name}/{node.attempt}"'.encode()
                good = result is not None and (result.cached or result.body == expected)
                demand(good, "results", f"{request.request_id}/{name}: {result}")
    for ask in world.clients.asks:
        demand(ask.settled, "answered once", f"{ask.body.message_id} heard nothing")
    for pending in world.clients.pending:
        if not pending.life.dead:
            demand(pending.answers == 1, "answered once", f"{pending.what} heard {pending.answers} answers")


def left_running(world: World) -> list[str]:
    """Return what still exists beside the root, the router's actor and its sweep."""
    life = world.life
    if life is None:
        return ["no daemon"]
    left = ["a message without a reply"] if world.ledger.open else []
    left += [path for path in life.system._actors if path not in ("/", "/conversations")]
    left += life.execution.calls.values()
    left += [call.order.node for call in life.execution.quick_calls if not call.over]
    if life.load.total:
        left.append(f"a load of {life.load.total}")
    if life.writer.busy or life.writer._pending or life.writer._undecided or life.writer._after:
        left.append("the writer")
    left += [what for what in world.agenda.open(life) if what != "timer" and not what.startswith("ends: ")]
    if world.agenda.open(life).count("timer") > 1:
        left.append("timers")
    return left
