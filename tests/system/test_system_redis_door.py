"""The Redis door of a real daemon, with both it and the server killed in the middle of work."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from daemon_process import eventually, node
from ledger_agents import read_ledger
from redis.exceptions import RedisError
from redis_running import SERVER, redis_server, until

from cli.exit_codes import DONE
from gateway.client import Problem

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(SERVER is None, reason="there is no redis-server here"),
]
MESSAGES = 300
PLAN = {"nodes": [node("a", "wait", seconds=0.01)]}


def message(conversation_id: str, text: str = "go", **more) -> str:
    fields = {"type": "user_message", "conversation_id": conversation_id, "text": text, "plan": PLAN, **more}
    return json.dumps(fields)


def get(daemon, path):
    return httpx2.get(daemon.url + path, trust_env=False, timeout=10)


@pytest.fixture
def server():
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def redis(server):
    with server.client() as client:
        yield client


def settled(redis) -> bool:
    return redis.xlen("orch:inbox") == 0 and redis.xpending("orch:inbox", "orchestrator")["pending"] == 0


def log_of(redis, conversation_id):
    return [json.loads(fields[b"event"]) for _, fields in redis.xrange(f"orch:log:{conversation_id}")]


def test_300_messages_are_answered_once_each_though_server_and_daemon_are_killed(make_daemon, server, redis):
    """Nothing is lost from the stream, nothing runs twice, and the logs have every event once."""
    daemon = make_daemon(redis_url=server.url, quarantine_after="50").start()
    ids = [f"c{number % 60}" for number in range(MESSAGES)]

    def send(number: int) -> None:
        """Retry until the server has it; a message id makes a second copy harmless."""
        body = message(ids[number], text=f"number {number}", message_id=f"m{number}")

        def added() -> bool:
            with contextlib.suppress(RedisError, OSError):
                return bool(redis.xadd("orch:inbox", {"message": body}))
            return False

        until(added, "added")

    unfinished = []
    for number in range(MESSAGES):
        send(number)
        if number in (60, 180):
            server.kill()
            server.start()
        if number in (120, 240):
            daemon.kill()
            unfinished.append(number + 1 - len([line for line in read_ledger(daemon.ledger) if line[0] == "end"]))
            daemon.start()
    assert any(unfinished), "the kills came too late to prove anything"
    until(lambda: settled(redis), "settled", 40)
    with daemon.client() as client:
        for conversation_id in sorted(set(ids)):
            expected = {f"m{number}" for number, cid in enumerate(ids) if cid == conversation_id}

            def replies(conversation_id=conversation_id, expected=expected):
                events = list(client.events(conversation_id))
                got = Counter(event["message_id"] for event in events if event["type"] == "reply.sent")
                return events if set(got) == expected else None

            events = eventually(replies, f"all replies of {conversation_id}", 40)
            for kind in ("reply.sent", "message.accepted"):
                assert Counter(event["message_id"] for event in events if event["type"] == kind) == Counter(expected)
            until(lambda: log_of(redis, conversation_id) == events, "the log is the journal", 10)  # noqa: B023  # used at once
    assert get(daemon, "/api/v1/deadletters").json()["dead_letters"] == []
    assert daemon.stop() == DONE


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_entry_read_by_a_daemon_that_died_around_its_commit_is_applied_once(make_daemon, server, redis, moment):
    """Read and not stored, or stored and not acknowledged: it comes again, and the inbox's key settles it."""
    daemon = make_daemon(redis_url=server.url)
    ordinary = daemon.program
    daemon.environment = {"CHAOS_LEDGER": str(daemon.directory / "recorded"), "CHAOS_LIFE": "0"}
    daemon.program = ["-m", "chaos.victim", "accepted", moment, "1", "0"]
    daemon.start()
    redis.xadd("orch:inbox", {"message": message("c")})
    assert daemon.wait() == -9
    assert not settled(redis)
    daemon.program = ordinary
    daemon.start()
    until(lambda: settled(redis), "settled")
    with daemon.client() as client:
        eventually(lambda: [e for e in client.events("c") if e["type"] == "reply.sent"], "the reply")
        kinds = Counter(event["type"] for event in client.events("c"))
    assert (kinds["message.accepted"], kinds["node.succeeded"], kinds["reply.sent"]) == (1, 1, 1)
    assert len([line for line in read_ledger(daemon.ledger) if line[0] == "start"]) == 1
    assert daemon.stop() == DONE


def test_the_same_message_over_http_and_the_stream_runs_once(make_daemon, server, redis):
    daemon = make_daemon(redis_url=server.url).start()
    with daemon.client() as client:
        first = client.send("c", "go", message_id="m1", plan=PLAN, wait=10)
        redis.xadd("orch:inbox", {"message": message("c", message_id="m1")})
        redis.publish("orch:inject:c", message("c", message_id="m1"))
        until(lambda: settled(redis), "settled")
        again = client.send("c", "go", message_id="m1", plan=PLAN, wait=10)
        assert again == first
        assert [event["type"] for event in client.events("c")].count("reply.sent") == 1
        redis.xadd("orch:inbox", {"message": message("c", text="another body", message_id="m1")})

        def letters():
            return get(daemon, "/api/v1/deadletters").json()["dead_letters"]

        (letter,) = eventually(letters, "the dead letter")
        assert letter["reason"].startswith("message_id_conflict")
        assert json.loads(letter["body"])["text"] == "another body"
    assert len([line for line in read_ledger(daemon.ledger) if line[0] == "start"]) == 1


def test_a_daemon_serves_http_while_redis_is_away_and_says_so(make_daemon, server, redis):
    """`readyz` names it, stays 200, and the events of that time are logged afterwards."""
    daemon = make_daemon(redis_url=server.url).start()
    eventually(lambda: get(daemon, "/readyz").json()["checks"]["redis"]["ok"], "connected")
    server.kill()
    with daemon.client() as client:
        eventually(lambda: not get(daemon, "/readyz").json()["checks"]["redis"]["ok"], "noticed")
        assert get(daemon, "/readyz").status_code == 200
        client.send("c", "go", plan=PLAN, wait=10)

        def status():
            return get(daemon, "/api/v1/status").json()["redis"]

        assert not status()["connected"]
        # One link that is away makes the door so; each notices by itself.
        eventually(lambda: "ConnectionError" in (status()["events"]["last_error"] or ""), "the events' link noticed")
        assert b"orchestrator_redis_up 0.0" in get(daemon, "/metrics").content
        server.start()
        began = time.monotonic()
        until(lambda: redis.publish("orch:inject:c", "hello"), "listening again")
        assert time.monotonic() - began < 4
        until(lambda: [event["type"] for event in log_of(redis, "c")].count("reply.sent") == 2, "both replies")
        until(lambda: log_of(redis, "c") == list(client.events("c")), "the log is the journal")
        # The door is up when all three links are, and each of them tries again in its own time.
        until(lambda: b"orchestrator_redis_up 1.0" in get(daemon, "/metrics").content, "the door is up")


def test_the_links_are_actors_that_say_their_state_and_are_restarted_by_their_path(make_daemon, server, redis):
    """Each alone, all of a door together, and with the server away they live on and say what they wait for."""
    daemon = make_daemon(redis_url=server.url).start()
    links = [f"/doors/redis/{name}" for name in ("events", "inbox", "pubsub")]

    def rows():
        with daemon.client() as client:
            return {row["path"]: row for row in client.actors() if row["path"].startswith("/doors")}

    def connected():
        return get(daemon, "/readyz").json()["checks"]["redis"]["ok"]

    eventually(connected, "connected")
    assert set(rows()) == {"/doors", "/doors/redis", *links}
    # A link is connected a moment before its actor has heard of it.
    eventually(lambda: all(rows()[path]["current"] is None for path in links), "nothing to wait for")
    with daemon.client() as client:
        client.restart("/doors/redis/inbox")
        eventually(lambda: rows()["/doors/redis/inbox"]["restarts"] == 1, "restarted")
        assert "operator" in rows()["/doors/redis/inbox"]["last_cause"]
        eventually(lambda: get(daemon, "/api/v1/status").json()["redis"]["inbox"]["restarts"] == 1, "told")
        redis.xadd("orch:inbox", {"message": message("c")})
        until(lambda: settled(redis), "the new life reads")
        client.restart("/doors/redis")
        eventually(lambda: get(daemon, "/api/v1/status").json()["redis"]["pubsub"]["restarts"] == 1, "all of them")
        eventually(connected, "connected again")
        until(lambda: redis.publish("orch:inject:c", "hello"), "listening again")
    server.kill()
    eventually(lambda: all("reconnecting" in (rows()[path]["current"] or "") for path in links), "what they wait for")
    server.start()
    eventually(connected, "connected again")
    eventually(lambda: all(rows()[path]["current"] is None for path in links), "nothing to wait for")


def test_a_refused_message_is_settled_soon_after_its_dead_letter(make_daemon, server, redis):
    daemon = make_daemon(redis_url=server.url).start()
    eventually(lambda: get(daemon, "/readyz").json()["checks"]["redis"]["ok"], "connected")
    began = time.monotonic()
    redis.xadd("orch:inbox", {"message": "rubbish"})
    until(lambda: redis.xlen("orch:inbox") == 0, "settled")
    assert time.monotonic() - began < 4
    assert get(daemon, "/api/v1/deadletters").json()["dead_letters"], "it was not in the store before"


def test_status_counts_the_dead_letters_there_are_not_those_of_this_life(make_daemon, server, redis):
    """After a restart it said that there were none."""
    daemon = make_daemon(redis_url=server.url).start()
    for _ in range(2):
        redis.xadd("orch:inbox", {"message": "rubbish"})
    until(lambda: settled(redis), "settled")
    assert daemon.stop() == DONE
    daemon.start()
    said = get(daemon, "/api/v1/status").json()["dead_letters"]
    assert said == {"kept": 2, "all_counted": True, "since_start": 0}
    with daemon.client() as client:
        client.drop(1)
    assert get(daemon, "/api/v1/status").json()["dead_letters"]["kept"] == 1


def test_a_daemon_starts_without_redis_and_stops_in_time(make_daemon, server):
    server.kill()
    daemon = make_daemon(redis_url=server.url).start()
    assert get(daemon, "/readyz").status_code == 200
    began = time.monotonic()
    assert daemon.stop() == DONE
    assert time.monotonic() - began < 10


def test_a_draining_daemon_leaves_the_stream_to_the_next_one(make_daemon, server, redis):
    daemon = make_daemon(redis_url=server.url, drain_timeout="30").start()
    with daemon.client() as client:
        client.send("long", "go", plan={"nodes": [node("a", "held")]})
        daemon.signal(15)
        eventually(lambda: get(daemon, "/readyz").json()["status"] == "draining", "draining")
        redis.xadd("orch:inbox", {"message": message("late")})
        daemon.let_go()
    assert daemon.wait() == DONE
    assert redis.xlen("orch:inbox") == 1
    assert log_of(redis, "long")[-2]["type"] == "reply.sent"
    daemon.start()
    until(lambda: settled(redis), "settled")
    until(lambda: any(event["type"] == "reply.sent" for event in log_of(redis, "late")), "the reply")


def test_the_same_message_twenty_times_at_once_over_both_doors_runs_once(make_daemon, server, redis):
    daemon = make_daemon(redis_url=server.url).start()
    replies = []

    def post() -> None:
        with daemon.client() as client:
            replies.append(client.send("c", "go", message_id="m1", plan=PLAN, wait=20))

    def add() -> None:
        redis.xadd("orch:inbox", {"message": message("c", message_id="m1")})

    with ThreadPoolExecutor(20) as pool:
        for done in [pool.submit(post if number % 2 else add) for number in range(20)]:
            done.result(30)
    until(lambda: settled(redis), "settled")
    assert len(replies) == 10
    assert all(reply == replies[0] for reply in replies)
    with daemon.client() as client:
        kinds = Counter(event["type"] for event in client.events("c"))
        assert (kinds["message.accepted"], kinds["node.started"], kinds["reply.sent"]) == (1, 1, 1)
    assert len([line for line in read_ledger(daemon.ledger) if line[0] == "start"]) == 1


def test_a_message_refused_over_redis_is_sent_again_by_hand_once_it_can_be_taken(make_daemon, server, redis):
    """It is refused while the conversation is busy; a person sends it again from its dead letter."""
    daemon = make_daemon(redis_url=server.url, log_level="INFO").start()
    with daemon.client() as client:
        client.send("c", "first", plan={"nodes": [node("a", "held")]})
        redis.xadd("orch:inbox", {"message": message("c", text="second", message_id="m2", busy_policy="reject")})
        (letter,) = eventually(lambda: list(client.dead_letters()), "a dead letter")
        assert "conversation_busy" in letter["reason"]
        with pytest.raises(Problem) as refused:
            client.replay(letter["id"], by="ann")
        assert refused.value.code == "conversation_busy"
        daemon.let_go()
        eventually(lambda: client.conversation("c")["phase"] == "completed", "the first reply")
        assert client.replay(letter["id"], by="ann", reason="it was busy")["message_id"] == "m2"
        assert list(client.dead_letters()) == []
        replied = eventually(
            lambda: [e for e in client.events("c") if e["type"] == "reply.sent" and e["message_id"] == "m2"], "a reply"
        )
        assert replied[0]["status"] == "completed"
    done = daemon.wait_for(r'"event": ?"operator_action".*"outcome": ?"done"|"outcome": ?"done".*"operator_action"')
    assert '"ann"' in done.string
