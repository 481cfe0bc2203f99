"""What running agents in parallel saves: the sample shop's questions for several agents, and the same one by one.

Run it as `python -m benchmarks.parallel [--quick]`. Each agent of the shop waits for 100 ms, as for a remote service.
Planning, checking and wording are the daemon's own; one by one means that each node waits for the one before it, as in
a program without a plan. Every reply has to be complete: a plan that fails early would be quick both ways.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
from time import perf_counter
from typing import Any

from benchmarks._lab import report, running_daemon, scratch, spread
from daemon import Daemon
from messages.events import Event, PlanDrafted, ReplySent
from messages.inbound import UserMessage
from messages.plan import Plan, PlanNode

SERVICE = "0.1"
QUESTIONS = (
    "what does the Profitec Go cost and is it in stock?",
    "compare the Niche Zero and the DF64, and what was the revenue of last month?",
    "what does the Niche Zero cost, is it in stock, and what was the revenue last month?",
)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="twice each instead of ten times")
    options = parser.parse_args()
    os.environ["SHOP_DELAY"] = SERVICE
    repetitions = 2 if options.quick else 10
    rows: list[dict[str, Any]] = []
    with scratch("sqlite") as store:
        settings = store.settings(agents_from=("examples.shop.agents",))
        with running_daemon(settings) as daemon:
            for number, text in enumerate(QUESTIONS):
                plan = _plan_of(daemon, f"plan{number}", text)
                if plan is None:
                    raise RuntimeError(f"{text!r} is not taken for one for several agents")
                ways = {"parallel": plan, "one by one": _in_a_row(plan)}
                took = {way: [] for way in ways}  # type: dict[str, list[float]]
                for repetition in range(repetitions):
                    for way, one in ways.items():
                        took[way].append(_ask(daemon, f"{way}{number}-{repetition}".replace(" ", "-"), text, one))
                together, apart = (statistics.median(took[way]) for way in ways)
                rows.append(
                    {
                        "question": text[:44],
                        "agents": len(plan.nodes or ()),
                        "repetitions": repetitions,
                        "one by one ms": spread([1_000 * seconds for seconds in took["one by one"]]),
                        "parallel ms": spread([1_000 * seconds for seconds in took["parallel"]]),
                        "saved %": round(100 * (1 - together / apart), 1),
                    }
                )
    report("parallel", rows)


def _plan_of(daemon: Daemon, conversation_id: str, text: str) -> Plan | None:
    """Return the plan that the daemon thinks up for a question, if it takes several agents."""
    drafted: list[PlanDrafted] = []
    unsubscribe = daemon.feed.subscribe(
        conversation_id, lambda event: drafted.append(event) if isinstance(event, PlanDrafted) else None, quick=True
    )
    _ask(daemon, conversation_id, text, None)
    unsubscribe()
    nodes = drafted[0].nodes if drafted else ()
    if len(nodes) < 2:
        return None
    return Plan(nodes=[PlanNode(id=n.id, agent=n.agent, task=n.task, inputs=n.inputs, after=[]) for n in nodes])


def _in_a_row(plan: Plan) -> Plan:
    nodes = plan.nodes or []
    ordered: list[PlanNode] = []
    for node in nodes:
        ordered.append(node.model_copy(update={"after": [ordered[-1].id] if ordered else []}))
    return Plan(nodes=ordered)


def _ask(daemon: Daemon, conversation_id: str, text: str, plan: Plan | None) -> float:
    assert daemon.router is not None
    done = threading.Event()
    replies: list[ReplySent] = []

    def hear(event: Event) -> None:
        if isinstance(event, ReplySent):
            replies.append(event)
            done.set()

    unsubscribe = daemon.feed.subscribe(conversation_id, hear, quick=True)
    began = perf_counter()
    daemon.router.submit(UserMessage(conversation_id=conversation_id, text=text, plan=plan), lambda _answer: None)
    if not done.wait(60.0):
        raise TimeoutError(text)
    took = perf_counter() - began
    unsubscribe()
    if replies[0].status != "completed":
        raise RuntimeError(f"{text!r} was answered {replies[0].status}")
    return took


if __name__ == "__main__":
    main()
