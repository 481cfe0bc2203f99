"""The daemon dies just before or just after a plan, or a result, is stored: who is asked again, and who is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from daemon_process import ROOT, DaemonProcess, eventually
from ledger_agents import read_ledger

from gateway.client import Unreachable

SERVE = [str(ROOT / "run.py"), "serve"]


def asked(daemon: DaemonProcess) -> int:
    path = daemon.ledger.with_name("ledger.planner")
    return len(path.read_text().splitlines()) if path.exists() else 0


def starts(daemon: DaemonProcess) -> Counter[tuple[str, str]]:
    return Counter((line[3], line[4]) for line in read_ledger(daemon.ledger) if line[0] == "start")


def die(make_daemon: Callable[..., DaemonProcess], group: str, moment: str) -> DaemonProcess:
    """Send a message to a daemon that ends itself at the first commit of that kind."""
    daemon = make_daemon(planner="ledger_agents:plan")
    daemon.environment = {"CHAOS_LEDGER": str(daemon.directory / "recorded"), "CHAOS_LIFE": "0"}
    daemon.program = ["-m", "chaos.victim", group, moment, "1", "0"]
    daemon.start()
    with daemon.client() as client, suppress(Unreachable):  # it may die before its answer is on the way
        client.send("c", "go", message_id="m")
    assert daemon.wait() == -9
    return daemon


def answered(daemon: DaemonProcess) -> list[dict[str, Any]]:
    """Start an ordinary daemon; return the journal when the message has its one reply."""
    daemon.program = SERVE
    daemon.start()
    with daemon.client() as client:
        client.send("c", "go", message_id="m")  # what was acknowledged is a repetition; else it is accepted now
        eventually(lambda: [e for e in client.events("c") if e["type"] == "reply.sent"], "the reply")
        events = list(client.events("c"))
    kinds = Counter(event["type"] for event in events)
    assert (kinds["message.accepted"], kinds["plan.drafted"], kinds["reply.sent"]) == (1, 1, 1)
    assert kinds["node.succeeded"] == 2
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert daemon.stop() == 0
    return events


def test_a_plan_that_was_not_stored_is_asked_for_again_and_nothing_had_started(make_daemon):
    daemon = die(make_daemon, "drafted", "before")
    assert (asked(daemon), starts(daemon)) == (1, Counter())
    answered(daemon)
    assert asked(daemon) == 2
    assert starts(daemon) == {("a", "1"): 1, ("b", "1"): 1}


def test_a_plan_that_was_stored_is_used_and_the_planner_is_not_asked_again(make_daemon):
    daemon = die(make_daemon, "drafted", "after")
    assert (asked(daemon), starts(daemon)) == (1, Counter())
    answered(daemon)
    assert asked(daemon) == 1
    assert sorted(node for node, _ in starts(daemon).elements()) == ["a", "b"]


@pytest.mark.parametrize(("moment", "runs"), [("before", 2), ("after", 1)])
def test_a_result_that_was_stored_is_never_worked_out_again(make_daemon, moment, runs):
    daemon = die(make_daemon, "result", moment)
    assert starts(daemon) == {("a", "1"): 1}
    answered(daemon)
    assert sum(count for (node, _), count in starts(daemon).items() if node == "a") == runs
    assert asked(daemon) == 1


def test_a_reply_that_was_stored_and_not_sent_is_the_one_that_is_sent(make_daemon):
    daemon = die(make_daemon, "reply", "after")
    ran = starts(daemon)
    answered(daemon)
    assert starts(daemon) == ran == {("a", "1"): 1, ("b", "1"): 1}
    assert asked(daemon) == 1
