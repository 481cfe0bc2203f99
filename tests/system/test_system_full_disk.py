"""A disk without room under SQLite: new work is refused with the reason, what was accepted is held, then it goes on.

The disk is a limit on the size of the daemon's files, set from outside while it runs: an ordinary user may do that, and
a write that reaches it ends in the middle, as on a full disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
from daemon_process import DaemonProcess, diamond, eventually
from ledger_agents import read_ledger

from gateway.client import DaemonClient

LARGE = "x" * 60_000
ROOM = 20_000
"""Bytes left to the write-ahead log: some small steps find room still, a large one ends in the middle."""
REASON = (
    "orchestrator.db: its disk fails, or is full, or a quota or limit of this process is reached; SQLITE_IOERR_WRITE"
)


@contextmanager
def full_disk(daemon: DaemonProcess) -> Iterator[None]:
    process = psutil.Process(daemon.pid)
    size = (daemon.directory / "orchestrator.db-wal").stat().st_size
    process.rlimit(psutil.RLIMIT_FSIZE, (size + ROOM, psutil.RLIM_INFINITY))
    yield
    if process.is_running():
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


def test_on_a_full_disk_nothing_is_lost_or_doubled_and_it_goes_on_when_there_is_room(
    make_daemon: Callable[..., DaemonProcess],
) -> None:
    daemon = make_daemon().start()
    with daemon.client() as client:
        client.send("before", "go", plan=diamond("wait", 0.01), message_id="m")
        eventually(lambda: kinds(client, "before")["reply.sent"] == 1, "the first reply")
        client.send("running", "go", plan=diamond("held", 0.0), message_id="m")
        eventually(lambda: of_running(daemon, "start") == 3, "its first agents are at work")
        with full_disk(daemon):
            unsure = post(daemon, "unsure", LARGE)
            assert (unsure.status_code, unsure.json()["code"]) == (503, "store_unavailable")
            assert unsure.json()["outcome"] == "unknown"
            daemon.let_go()
            eventually(lambda: of_running(daemon, "end") == 3, "its first nodes are done, and that waits to be written")
            refused = post(daemon, "refused", "go")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["detail"].startswith("the store takes no writes now: ")
            assert REASON in refused.json()["detail"]
            ready = client.readiness()
            assert ready["status"] == "not_ready"
            assert REASON in ready["checks"]["store"]["detail"]
            assert kinds(client, "before")["reply.sent"] == 1, "it is read as ever"
            assert of_running(daemon, "end") == 3, "the last one waits for them"
            assert kinds(client, "running")["reply.sent"] == 0
            assert daemon.wait_for("store_unavailable")
        again = eventually(lambda: accepted(post(daemon, "unsure", LARGE)), "the repetition is accepted")
        for conversation in ("before", "running", "unsure"):
            eventually(lambda c=conversation: kinds(client, c)["reply.sent"] == 1, f"the reply of {conversation}")
            seen = kinds(client, conversation)
            assert (seen["message.accepted"], seen["node.started"], seen["node.succeeded"]) == (1, 4, 4)
        assert accepted(post(daemon, "unsure", LARGE)) == again
        assert not [row for row in client.conversations() if row["conversation_id"] == "refused"]
        assert eventually(lambda: client.readiness()["status"] == "ready", "it is ready")
        assert_nothing_twice(daemon.ledger)
    assert daemon.stop() == 0


def test_a_daemon_that_dies_on_a_full_disk_left_a_whole_journal(make_daemon: Callable[..., DaemonProcess]) -> None:
    daemon = make_daemon().start()
    with daemon.client() as client:
        client.send("before", "go", plan=diamond("wait", 0.01), message_id="m")
        client.send("running", "go", plan=diamond("wait", 0.3), message_id="m")
        eventually(lambda: kinds(client, "before")["reply.sent"] == 1, "the first reply")
        with full_disk(daemon):
            eventually(lambda: post(daemon, "refused", LARGE, patience=0.2) is not None, "new work is refused")
            daemon.kill()
    daemon.start()
    with daemon.client() as client:
        for conversation in ("before", "running"):
            eventually(lambda c=conversation: kinds(client, c)["reply.sent"] == 1, f"the reply of {conversation}")
            seen = kinds(client, conversation)
            assert (seen["message.accepted"], seen["node.succeeded"]) == (1, 4)
    assert_nothing_twice(daemon.ledger)
    assert daemon.stop() == 0


def post(daemon: DaemonProcess, conversation: str, text: str, patience: float = 20.0) -> Any:
    """Return the answer; None when there is none in time."""
    url = f"{daemon.url}/api/v1/conversations/{conversation}/messages"
    message = {"text": text, "plan": diamond("wait", 0.01), "message_id": "m"}
    try:
        return httpx2.post(url, json=message, trust_env=False, timeout=patience)
    except httpx2.TimeoutException:
        return None


def of_running(daemon: DaemonProcess, what: str) -> int:
    return sum(line[:2] == [what, "running"] for line in read_ledger(daemon.ledger))


def accepted(answer: Any) -> Any:
    return answer.json() if answer.status_code == 202 else None


def kinds(client: DaemonClient, conversation: str) -> Counter[str]:
    return Counter(event["type"] for event in client.events(conversation))


def assert_nothing_twice(ledger: Path) -> None:
    starts = Counter((line[1], line[3], line[4]) for line in read_ledger(ledger) if line[0] == "start")
    assert max(starts.values()) == 1, "no attempt was made twice"
