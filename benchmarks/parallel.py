"""What running agents in parallel saves: the sample shop's questions for several agents, and the same one by one.

Run it as `python -m benchmarks.parallel [--quick]`. Each agent of the shop is given 100 ms of waiting, as a remote
service would take. Planning, checking and wording are the daemon's own; one by one means that each node waits for the
one before it, as in a program without a plan.
"""

from __future__ import annotations

import argparse
import statistics
import threading
from dataclasses import replace
from time import perf_counter, sleep
from typing import Any

from agents.registry import Registry
from benchmarks._lab import report, running_daemon, scratch
from building import build_registry
from daemon import Daemon
from messages.events import PlanDrafted, ReplySent
from messages.inbound import UserMessage
from messages.plan import Plan, PlanNode

SERVICE = 0.1
QUESTIONS = (
    "what does the Profitec Go cost and is it in stock?",
    "which orders are late, what was the revenue last month, and what is out of stock?",
    "how did the revenue of last month compare, and what should be restocked?",
)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three times each instead of ten")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with scratch("sqlite") as store:
        settings = store.settings(agents_from=("examples.shop.agents",))
        with running_daemon(settings) as daemon:
            _slow_down(daemon, build_registry(settings))
            for number, text in enumerate(QUESTIONS):
                plan = _plan_of(daemon, f"plan{number}", text)
                if plan is None:
                    continue
                ways = {"parallel": plan, "one by one": _in_a_row(plan)}
                took = {way: [] for way in ways}  # type: dict[str, list[float]]
                for repetition in range(3 if options.quick else 10):
                    for way, one in ways.items():
                        took[way].append(_ask(daemon, f"{way}{number}-{repetition}".replace(" ", "-"), text, one))
                together, apart = (statistics.median(took[way]) for way in ways)
                rows.append(
                    {
                        "question": text[:44],
                        "agents": len(plan.nodes or ()),
                        "one by one ms": round(1_000 * apart, 1),
                        "parallel ms": round(1_000 * together, 1),
                        "saved %": round(100 * (1 - together / apart), 1),
                    }
                )
    report("parallel", rows)


def _slow_down(daemon: Daemon, registry: Registry) -> None:
    """Let every agent take as long as a service that it would ask."""
    for spec in registry:
        function = spec.function

        def slowly(*args: Any, _function: Any = function, **kwargs: Any) -> Any:
            sleep(SERVICE)
            return _function(*args, **kwargs)

        daemon.registry._specs[spec.name] = replace(spec, function=slowly, is_async=False)  # noqa: SLF001  # a benchmark's own daemon


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
    unsubscribe = daemon.feed.subscribe(
        conversation_id, lambda event: done.set() if isinstance(event, ReplySent) else None, quick=True
    )
    began = perf_counter()
    daemon.router.submit(UserMessage(conversation_id=conversation_id, text=text, plan=plan), lambda _answer: None)
    if not done.wait(60.0):
        raise TimeoutError(text)
    unsubscribe()
    return perf_counter() - began


if __name__ == "__main__":
    main()
