"""What a conversation's length costs: time and stored bytes of turn 10, 100 and 1,000 of one conversation.

Run it as `python -m benchmarks.long_conversation [--quick] [--store sqlite]`. A turn is a question of 2 KB that one
agent answers with 2 KB. `bytes/text` is everything the store holds, its logs included, beside the text that was said
(questions and results); the default settings, which log every operation.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from typing import Annotated, Any

from agents import MessageText, agent
from benchmarks._lab import report, running_daemon, scratch
from daemon import Daemon
from messages.events import Event
from messages.inbound import UserMessage
from messages.plan import Plan

SIZE = 2_000
KINDS = ("sqlite", "postgres", "redis")


@agent(effects="read")
async def answer(question: Annotated[str, MessageText]) -> dict[str, str]:
    """Answer in as many characters as were asked."""
    return {"text": question[::-1]}


PLAN = Plan.model_validate({"nodes": [{"id": "n", "agent": "answer", "inputs": {"question": "q" * SIZE}}]})


def measure(kind: str, turns: int) -> list[dict[str, Any]]:
    """Return a line for some turns of one conversation."""
    rows: list[dict[str, Any]] = []
    with scratch(kind) as store:
        settings = store.settings(agents_from=("benchmarks.long_conversation",), trace_all=True)
        with running_daemon(settings) as daemon:
            talk(daemon, "warm", 20)
            wait_for_rows(daemon)
            before = store.stored_bytes()
            took: list[float] = []
            marks = sorted({10, 100, turns})
            for mark in marks:
                took.extend(talk(daemon, "long", mark - len(took), first=len(took)))
                wait_for_rows(daemon)
                recent = took[-min(len(took), 10 if mark <= 10 else 50) :]
                said = 2 * SIZE * mark
                grown = store.stored_bytes() - before
                rows.append(
                    {
                        "store": kind,
                        "turn": mark,
                        "ms (median of the last)": round(1_000 * statistics.median(recent), 2),
                        "stored bytes": grown,
                        "bytes/text": round(grown / said, 2),
                    }
                )
    return rows


def talk(daemon: Daemon, conversation: str, turns: int, *, first: int = 0) -> list[float]:
    """Return the seconds of each turn, from the message to the reply."""
    assert daemon.router is not None
    heard = threading.Event()

    def hear(event: Event) -> None:
        if event.type == "reply.sent":
            heard.set()

    unsubscribe = daemon.feed.subscribe(conversation, hear, quick=True)
    took = []
    for number in range(first, first + turns):
        heard.clear()
        began = time.perf_counter()
        text = f"{number:05} ".ljust(SIZE, "?")
        daemon.router.submit(UserMessage(conversation_id=conversation, text=text, plan=PLAN), lambda _answer: None)
        if not heard.wait(30):
            raise TimeoutError(f"turn {number} had no reply")
        took.append(time.perf_counter() - began)
    unsubscribe()
    return took


def wait_for_rows(daemon: Daemon) -> None:
    """Wait until the log rows of what happened are stored too: they ride along a second later at most."""
    seen = -1
    while daemon.writer.stats()["rows"] != seen:
        seen = daemon.writer.stats()["rows"]
        threading.Event().wait(1.5)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 turns instead of 1,000")
    parser.add_argument("--store", choices=KINDS, help="this one only")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for kind in [options.store] if options.store else KINDS:
        rows.extend(measure(kind, 300 if options.quick else 1_000))
    report("long_conversation", rows)


if __name__ == "__main__":
    main()
