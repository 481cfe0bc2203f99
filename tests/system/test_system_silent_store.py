"""The store falls silent with a message on its way to it: its sender hears so within seconds, and it is run once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from daemon_process import DaemonProcess, diamond, eventually
from ledger_agents import read_ledger
from postgres_obstacles import frozen
from store_worlds import StoreWorld, store_world

from gateway.client import DaemonClient, Problem

SOON = 8.0
"""Seconds; 3 to 4 are promised, and the machine may be busy."""


@contextmanager
def silence(world: StoreWorld, how: str) -> Iterator[None]:
    if how == "killed":
        assert world.kill_server is not None
        assert world.start_server is not None
        world.kill_server()
        yield
        world.start_server()
    else:
        with frozen(*world.server_pids()):
            yield


@pytest.mark.parametrize(
    ("kind", "how", "first"),
    [("postgres", "frozen", "c"), ("redis", "killed", "c"), ("redis", "frozen", "new")],
    ids=["postgres frozen", "redis killed", "redis frozen before a conversation is looked up"],
)
def test_a_sender_whose_message_was_on_its_way_hears_within_seconds_that_nobody_knows(
    kind: str, how: str, first: str, make_daemon: Callable[..., DaemonProcess]
) -> None:
    with store_world(kind) as world:
        daemon = make_daemon(**world.settings).start()
        with daemon.client() as client:
            client.send("c", "go", plan=diamond("wait", 0.01), message_id="first")
            eventually(lambda: kinds(client, "c")["reply.sent"] == 1, "the first reply")
            with silence(world, how):
                began = time.monotonic()
                unsure = post(daemon, first, "m")
                assert time.monotonic() - began < SOON
                assert (unsure.status_code, unsure.json()["code"]) == (503, "store_unavailable")
                assert (unsure.json()["outcome"], unsure.headers["retry-after"] in {"1", "2"}) == ("unknown", True)
                assert "the same message" in unsure.json()["detail"]
                if first == "new":  # which got no further than being looked up: this one gets to the journal
                    post(daemon, "c", "more")
                assert daemon.wait_for("store_unavailable")
                began = time.monotonic()
                refused = post(daemon, "late", "m")
                assert time.monotonic() - began < 4.0
                assert (refused.status_code, refused.json().get("outcome")) == (503, None)
                ready = client.readiness()
                assert ready["status"] == "not_ready"
                assert not ready["checks"]["store"]["ok"]
            again = eventually(lambda: accepted(post(daemon, first, "m")), "it takes work again")
            replied = 2 if first == "c" else 1
            eventually(lambda: kinds(client, first)["reply.sent"] >= replied, "the reply")
            assert accepted(post(daemon, first, "m")) == again, "the repetition is the one of before"
            asked = [event["message_id"] for event in client.events(first) if event["type"] == "message.accepted"]
            assert asked.count("m") == 1
            with pytest.raises(Problem, match="not_found"):
                client.conversation("late")
        starts = Counter(tuple(line[1:5]) for line in read_ledger(daemon.ledger) if line[0] == "start")
        assert max(starts.values()) == 1
        assert daemon.stop() == 0


def test_a_store_that_falls_silent_while_all_sleep_is_said_and_closes_the_doors(
    make_daemon: Callable[..., DaemonProcess],
) -> None:
    """Nothing is to be written then, only looked up: no commit tells of the silence unless one is made for it."""
    with store_world("postgres") as world:
        daemon = make_daemon(**world.settings).start()
        with daemon.client() as client:
            client.send("c", "go", plan=diamond("wait", 0.01), message_id="first", wait=10.0)
            threading.Event().wait(2.5)  # until the rows of the log are written, which would do as well
            with frozen(*world.server_pids()):
                unsure = post(daemon, "new", "m")
                assert (unsure.status_code, unsure.json()["outcome"]) == (503, "unknown")
                assert daemon.wait_for("store_slow", timeout=3.0)
                assert daemon.wait_for("store_unavailable", timeout=12.0)
                began = time.monotonic()
                refused = post(daemon, "late", "m")
                assert time.monotonic() - began < 2.0
                assert (refused.status_code, refused.json().get("outcome")) == (503, None)
                shown = client.status()
                assert time.monotonic() - began < 4.0
                assert not shown["store"]["available"] and "confirmed nothing" in shown["store"]["detail"]
                assert not client.readiness()["checks"]["store"]["ok"]
            eventually(lambda: accepted(post(daemon, "new", "m")), "it takes work again")
            assert client.status()["store"]["available"]
        assert daemon.stop() == 0


def test_a_daemon_that_has_nothing_to_write_stops_in_time_although_its_store_is_silent(
    make_daemon: Callable[..., DaemonProcess],
) -> None:
    """No commit has told of the silence, but the thread that renews the lease has the connection, for 35 s."""
    with store_world("postgres") as world:
        daemon = make_daemon(drain_timeout="1s", **world.settings).start()
        with daemon.client() as client:
            client.send("c", "go", plan=diamond("wait", 60.0), message_id="m")
            eventually(lambda: kinds(client, "c")["node.started"] == 3, "its nodes")
            with frozen(*world.server_pids()):
                threading.Event().wait(1.0)  # until the lease, of 2 s, is renewed
                assert daemon.stop(timeout=20.0) == 0
        daemon.start()
        with daemon.client() as client:
            eventually(lambda: kinds(client, "c")["node.started"] == 6, "it goes on")


def post(daemon: DaemonProcess, conversation: str, message_id: str) -> Any:
    url = f"{daemon.url}/api/v1/conversations/{conversation}/messages"
    message = {"text": "go", "plan": diamond("wait", 0.01), "message_id": message_id}
    return httpx2.post(url, json=message, trust_env=False, timeout=20.0)


def accepted(answer: Any) -> Any:
    return answer.json() if answer.status_code == 202 else None


def kinds(client: DaemonClient, conversation: str) -> Counter[str]:
    return Counter(event["type"] for event in client.events(conversation))
