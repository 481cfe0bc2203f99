"""What a conversation's length costs: time and stored bytes of turn 1, 100 and 1,000 of one conversation.

Run it as `python -m benchmarks.long_conversation [--quick] [--store sqlite]`. A turn is a question of 2 KB that one
agent answers with 2 KB. `ms` is the median of the turns just before it, `bytes/turn` the mean of those since the line
above, and `bytes/text` everything the store holds, its logs included, beside the text that was said (questions and
results); the default settings, which log every operation. The stick writes the question, the result and the reply.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from typing import Annotated, Any

from agents import MessageText, agent
from benchmarks import _stick
from benchmarks._lab import Scratch, report, running_daemon, scratch, spread
from daemon import Daemon
from messages.events import Event
from messages.inbound import UserMessage
from messages.plan import Plan

SIZE = 2_000
WINDOW = 20
KINDS = ("sqlite", "postgres", "redis")


@agent(effects="read")
async def answer(question: Annotated[str, MessageText]) -> dict[str, str]:
    """Answer in as many characters as were asked."""
    return {"text": question[::-1]}


PLAN = Plan.model_validate({"nodes": [{"id": "n", "agent": "answer", "inputs": {"question": "q" * SIZE}}]})


def measure(kind: str, turns: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """Return a line for some turns of conversations of that length."""
    taken: dict[int, list[tuple[float, float]]] = {mark: [] for mark in turns}
    with scratch(kind) as store:
        settings = store.settings(agents_from=("benchmarks.long_conversation",), trace_all=True)
        with running_daemon(settings) as daemon:
            talk(daemon, "warm", 20)
            wait_for_rows(daemon)
            for repetition in range(repetitions):
                for mark, one in _figures(daemon, store, turns, str(repetition)).items():
                    taken[mark].append(one)
        disk = _stick.disk(store)
        stick = 1_000 * statistics.median(_stick.talk(disk, 100, SIZE))
        disk.close()
    return [
        {
            "store": kind,
            "turn": mark,
            "repetitions": repetitions,
            "ms": spread([1_000 * seconds for seconds, _ in found]),
            "by hand ms": round(stick, 2),
            "ratio": round(1_000 * statistics.median(seconds for seconds, _ in found) / stick, 2),
            "bytes/turn": spread([size for _, size in found]),
            "bytes/text": round(statistics.median(size for _, size in found) / (2 * SIZE), 2),
        }
        for mark, found in taken.items()
    ]


def _figures(daemon: Daemon, store: Scratch, turns: tuple[int, ...], name: str) -> dict[int, tuple[float, float]]:
    """Return seconds and stored bytes of each turn that is asked for."""
    before = store.stored_bytes()
    # One first turn is too few to be measured: that of as many conversations.
    took = [talk(daemon, f"first-{name}-{number}", 1)[0] for number in range(WINDOW)]
    wait_for_rows(daemon)
    found = {1: (statistics.median(took), (store.stored_bytes() - before) / WINDOW)}
    done = 0
    for mark in turns:
        if mark > 1:
            before = store.stored_bytes()
            took = talk(daemon, f"long-{name}", mark - done, first=done)
            wait_for_rows(daemon)
            found[mark] = statistics.median(took[-WINDOW:]), (store.stored_bytes() - before) / len(took)
            done = mark
    return found


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
    seen, since = -1, time.monotonic()
    pause = threading.Event()
    while time.monotonic() - since < 1.2:
        if daemon.writer.stats()["rows"] != seen:
            seen, since = daemon.writer.stats()["rows"], time.monotonic()
        pause.wait(0.05)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="200 turns, once, on SQLite alone, instead of 1,000, three times"
    )
    parser.add_argument("--store", choices=KINDS, help="this one only")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    turns, repetitions = ((1, 50, 200), 1) if options.quick else ((1, 100, 1_000), 3)
    for kind in [options.store] if options.store else KINDS[:1] if options.quick else KINDS:
        rows.extend(measure(kind, turns, repetitions))
    report("long_conversation", rows)


if __name__ == "__main__":
    main()
