"""Two daemons on one store: one of them owns it, whatever becomes of the other."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import DaemonProcess, diamond, eventually
from ledger_agents import read_ledger
from store_worlds import StoreWorld, store_world

ROUNDS = int(os.environ.get("TWO_DAEMONS_ROUNDS", "1"))
"""How often an owner is frozen and woken again; more by hand."""
TRY_AGAIN = 75


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def world(request: pytest.FixtureRequest) -> Iterator[StoreWorld]:
    with store_world(request.param) as world:
        yield world


@pytest.fixture
def make(world: StoreWorld, tmp_path: Path) -> Iterator[Any]:
    """Make daemons on one store, one ledger and one data folder."""
    made: list[DaemonProcess] = []

    def make() -> DaemonProcess:
        made.append(DaemonProcess(tmp_path, **world.settings))
        return made[-1]

    yield make
    for daemon in made:
        if not daemon.ended:
            daemon.signal(signal.SIGCONT)
            daemon.close()


def refused(daemon: DaemonProcess) -> None:
    """Start a daemon that finds its store owned."""
    with pytest.raises(AssertionError, match="owned by another live daemon"):
        daemon.start()
    assert daemon.wait() == TRY_AGAIN


def take_over(daemon: DaemonProcess) -> None:
    """Start a daemon again and again, as a service manager does, until the lease of the frozen owner has ended."""

    def started() -> bool:
        try:
            daemon.start()
        except AssertionError:
            assert daemon.wait() == TRY_AGAIN
            return False
        return True

    eventually(started, "the lease ended")


def journal(daemon: DaemonProcess, conversation: str) -> list[dict[str, Any]]:
    with daemon.client() as client:
        events = list(client.events(conversation))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    return events


def test_a_second_daemon_is_refused_while_the_first_lives_and_follows_it_when_it_is_dead(make: Any) -> None:
    first, second = make().start(), make()
    with first.client() as client:
        client.send("c", "go", plan=diamond("wait", 0.4))
    refused(second)
    first.kill()
    second.start()
    with second.client() as client:
        eventually(lambda: [e for e in client.events("c") if e["type"] == "reply.sent"], "the reply")
    kinds = Counter(event["type"] for event in journal(second, "c"))
    assert (kinds["reply.sent"], kinds["node.succeeded"]) == (1, 4)


@pytest.mark.timeout(60 * ROUNDS)
def test_an_owner_that_was_frozen_and_woken_writes_nothing_more(make: Any, world: StoreWorld) -> None:
    """With SQLite it keeps its store; else it loses it with its lease, and says by what when it wakes."""
    for number in range(ROUNDS):
        freeze_and_wake(make, world, f"c{number}")


def freeze_and_wake(make: Any, world: StoreWorld, conversation: str) -> None:
    first, second = make().start(), make()
    with first.client() as client:
        client.send(conversation, "go", plan=diamond("wait", 0.3))
        eventually(lambda: len(_starts(first, conversation)) >= 3, "three nodes run")
    first.signal(signal.SIGSTOP)
    if world.kind == "sqlite":
        refused(second)
        first.signal(signal.SIGCONT)
        last = first
    else:
        take_over(second)
        before = len(_starts(second, conversation))
        first.signal(signal.SIGCONT)
        assert first.wait(20) == TRY_AGAIN
        assert first.wait_for("no longer ours.*(epoch|ownership|owns)")
        assert before >= 3
        last = second
    with last.client() as client:
        eventually(lambda: [e for e in client.events(conversation) if e["type"] == "reply.sent"], "the reply")
    kinds = Counter(event["type"] for event in journal(last, conversation))
    assert (kinds["reply.sent"], kinds["node.succeeded"]) == (1, 4)
    starts = Counter((line[3], line[4]) for line in _starts(last, conversation))
    assert all(count == 1 for count in starts.values()), "no attempt was made by both"
    assert max(Counter(node for node, _ in starts).values()) <= 2
    assert last.stop() == 0


def _starts(daemon: DaemonProcess, conversation: str) -> list[list[str]]:
    return [line for line in read_ledger(daemon.ledger) if line[0] == "start" and line[1] == conversation]
