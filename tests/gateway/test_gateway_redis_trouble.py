"""A Redis that is cut off, frozen, killed, locked or emptied: the door comes back by itself and says what was lost."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis_running import SERVER, redis_server, until
from redis_support import QuickRouter, opened

from gateway.redis_link import Link, Place
from gateway.redis_ports import BadUrl
from messages.inbound import Refused

pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")
DOCS = Path(__file__).parents[2] / "docs" / "redis.md"


def body(text: str, conversation_id: str = "c1") -> bytes:
    return json.dumps({"type": "user_message", "conversation_id": conversation_id, "text": text}).encode()


@pytest.fixture
def server():
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(server):
    with server.client() as client:
        yield client


def test_a_killed_pubsub_connection_is_back_within_two_seconds(server, redis):
    with opened(server) as at:
        for number in range(3):
            redis.client_kill_filter(_type="pubsub")
            began = time.monotonic()
            until(lambda: redis.publish("orch:inject:c1", f"hello {number}"), "somebody listens", 5)  # noqa: B023  # used at once
            assert time.monotonic() - began < 4
        until(lambda: {"hello 0", "hello 1", "hello 2"} <= set(at.router.texts), "all heard")
        assert at.door.status()["pubsub"]["reconnects"] == 3


def test_all_connections_killed_again_and_again_lose_nothing_from_the_stream(server, redis):
    with opened(server) as at:
        for number in range(200):
            redis.xadd("orch:inbox", {"message": body(str(number), f"c{number % 7}")})
            if number % 20 == 0:
                redis.client_kill_filter(_type="normal", skipme=True)
        until(at.settled, "settled", 20)
        accepted = sum(len(events) for events in at.router.journal.values())
        assert accepted == 200
        assert not at.letters


def test_a_frozen_server_is_noticed_and_taken_up_again(server, redis):
    with opened(server) as at:
        server.freeze()
        until(lambda: not any(link.connected for link in at.door._links.values()), "noticed", 15)
        with pytest.raises(RuntimeError, match="inbox not connected"):
            at.door.check()
        server.thaw()
        began = time.monotonic()
        at.connected()
        assert time.monotonic() - began < 4
        redis.xadd("orch:inbox", {"message": body("after")})
        until(at.settled, "settled")
        assert "after" in at.router.texts


def test_a_server_that_comes_late_and_goes_without_its_data_is_said(server, redis):
    server.kill()
    with opened(server, wait=False) as at:
        until(lambda: len(at.names("redis_lost")) == 3, "each link says it once")
        server.start()
        at.connected()
        assert not at.names("redis_gap")
        server.kill()
        server.start()  # without persistence: the group is gone
        until(lambda: at.names("redis_gap"), "the gap")
        at.connected()
        redis.xadd("orch:inbox", {"message": body("goes on")})
        until(at.settled, "settled")
        assert at.router.texts == ["goes on"]


@pytest.mark.parametrize("blow", ["group", "stream"])
def test_a_group_or_stream_that_is_removed_is_made_anew(server, redis, blow):
    full = Refused(code="mailbox_full", detail="full")
    router = QuickRouter(refusals={"held": [full] * 5})
    with opened(server, router) as at:
        redis.xadd("orch:inbox", {"message": body("held", "c2")})
        until(lambda: at.door.status()["inbox"]["retried"], "one is held")
        if blow == "group":
            redis.xgroup_destroy("orch:inbox", "orchestrator")
        else:
            redis.delete("orch:inbox")
        until(lambda: at.names("redis_gap"), "it was said")
        redis.xadd("orch:inbox", {"message": body("next")})
        until(lambda: "next" in router.texts, "the next one")
        until(at.settled, "settled")
        assert router.texts.count("next") == 1
        if blow == "group":
            assert router.texts.count("held") == 1
        else:
            until(lambda: at.door.status()["inbox"]["lost"] == 1, "what was held is missed when its time comes")
        assert at.door.connected


def test_logs_of_a_server_that_lost_its_data_are_filled_from_the_journal(server, redis):
    """When their conversation goes on: what was logged before is not taken for still there."""
    with opened(server) as at:
        for _ in range(3):
            at.router.tick("c1")
        until(lambda: redis.xlen("orch:log:c1") == 3, "the log")
        server.kill()
        server.start()
        at.connected()
        until(lambda: at.door.status()["events"]["reconnects"] == 1, "back")
        at.router.tick("c1")
        until(lambda: [entry_id for entry_id, _ in redis.xrange("orch:log:c1")] == [b"1-0", b"2-0", b"3-0", b"4-0"])


def test_events_that_waited_while_the_server_was_frozen_are_logged_afterwards(server, redis):
    with opened(server) as at:
        server.freeze()
        at.router.tick("sent")
        until(lambda: at.door.status()["events"]["waiting"] == 0, "one is being sent")
        at.router.tick("queued")
        until(lambda: not at.door._links["events"].connected, "noticed", 15)
        at.router.tick("afterwards")
        server.thaw()
        until(
            lambda: all(redis.xlen(f"orch:log:{name}") == 1 for name in ("sent", "queued", "afterwards")), "all three"
        )


def test_a_group_that_is_removed_all_the_time_is_no_hot_loop(server, redis):
    with opened(server) as at:
        deadline = time.monotonic() + 1.0
        removed = 0
        while time.monotonic() < deadline:
            with contextlib.suppress(ResponseError):
                removed += redis.xgroup_destroy("orch:inbox", "orchestrator")
        assert 1 <= removed <= 12
        redis.xadd("orch:inbox", {"message": body("still there")})
        until(at.settled, "settled")


def test_pending_entries_that_were_trimmed_are_counted_and_said(server, redis):
    """Both those a dead daemon left and those that wait in a living one."""
    redis.xgroup_create("orch:inbox", "orchestrator", id="0", mkstream=True)
    for number in range(3):
        redis.xadd("orch:inbox", {"message": body(str(number))})
    redis.xreadgroup("orchestrator", "dead", {"orch:inbox": ">"})
    redis.xtrim("orch:inbox", maxlen=1, approximate=False)
    full = Refused(code="mailbox_full", detail="full")
    with opened(server, QuickRouter(refusals={"held": [full] * 5})) as at:
        until(lambda: at.door.status()["inbox"]["lost"] == 2, "two lost")
        assert "trimmed or deleted" in at.names("redis_gap")[0]["reason"]
        redis.xadd("orch:inbox", {"message": body("held", "c2")})
        until(lambda: at.door.status()["inbox"]["retried"], "it is held")
        redis.xtrim("orch:inbox", maxlen=0, approximate=False)
        until(lambda: at.door.status()["inbox"]["lost"] == 3, "the third")
        until(at.settled, "settled")


def test_a_wrong_password_is_waited_out_and_never_said(server, redis):
    redis.config_set("requirepass", "right-one")
    admin = server.client(password="right-one")
    with opened(server, url=f"{server.url}?password=wrong-one", wait=False) as at:
        until(lambda: len(at.names("redis_lost")) == 3, "refused")
        admin.config_set("requirepass", "wrong-one")
        at.connected()
        assert "wrong-one" not in repr(at.told) + repr(at.door.status())


def acl_rules() -> list[str]:
    """Return the rights of the daemon's user, from the page that recommends them."""
    found = re.search(
        r"^ACL SETUSER orchestrator (.+?)\n```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return found.group(1).replace("\\\n", " ").split()


def test_the_documented_rights_are_enough_and_narrowed_ones_are_waited_out(server, redis):
    rules = [rule if rule[0] not in "<>" else ">secret" for rule in acl_rules()]
    redis.execute_command("ACL", "SETUSER", "orchestrator", *rules)
    redis.xgroup_create("orch:inbox", "orchestrator", id="0", mkstream=True)
    redis.xadd("orch:inbox", {"message": body("of the dead")})
    redis.xreadgroup("orchestrator", "dead", {"orch:inbox": ">"})
    redis.set("orch:log-mark", "1")
    redis.xadd("orch:log:c5", {"event": "of another life"}, id="9-0")
    full = Refused(code="mailbox_full", detail="full")
    url = f"{server.url}?username=orchestrator&password=secret"
    with opened(server, QuickRouter(refusals={"held": [full]}), url=url) as at:
        redis.publish("orch:inject", body("one"))
        redis.publish("orch:inject:c2", "two")
        for text in ("three", "held"):
            redis.xadd("orch:inbox", {"message": body(text)})
        redis.xadd("orch:inbox", {"message": "rubbish"})
        at.router.tick("c5")
        until(lambda: len(at.router.texts) == 5 and at.settled(), "all taken")
        until(lambda: redis.xlen("orch:log:c5") == 1 and redis.xrange("orch:log:c5")[0][0] == b"1-0", "the log")
        assert not at.names("redis_lost")
        assert not at.names("publish_failed")

        redis.execute_command("ACL", "SETUSER", "orchestrator", "-xreadgroup", "resetchannels", "-publish")
        redis.client_kill_filter(_type="pubsub")
        until(lambda: {fields["link"] for fields in at.names("redis_lost")} >= {"inbox", "pubsub"}, "it was said")
        at.router.tick("c5")
        until(lambda: at.names("publish_failed"), "this too")
        redis.execute_command("ACL", "SETUSER", "orchestrator", *rules)
        at.connected()
        redis.xadd("orch:inbox", {"message": body("back")})
        until(at.settled, "settled")
        until(lambda: redis.xlen("orch:log:c5") == 2, "the log again")

    with server.client(username="orchestrator", password="secret") as limited:
        for command in (("KEYS", "*"), ("CONFIG", "GET", "*"), ("EVAL", "return 1", "0"), ("SET", "other", "1")):
            with pytest.raises(ResponseError, match=r"(?i)no permissions"):
                limited.execute_command(*command)


def test_a_flood_beyond_the_servers_output_buffer_costs_messages_but_not_the_door(server, redis):
    redis.config_set("client-output-buffer-limit", "pubsub 100kb 50kb 1")
    with opened(server) as at:
        pipeline = redis.pipeline(transaction=False)
        for _ in range(3_000):
            pipeline.publish("orch:inject:c1", "x" * 1_000)
        pipeline.execute()
        until(lambda: redis.publish("orch:inject:c2", "the last"), "listening again")
        until(lambda: "the last" in at.router.texts, "heard")


def test_work_that_fails_for_any_reason_is_tried_again_with_growing_waits():
    """A fault of our own does not end a link either."""
    told = []
    link = Link("x", Place("redis://localhost:1"), lambda event, **fields: told.append((event, fields)), lambda: 0.0)
    tries = []

    def work(_client):
        tries.append(time.monotonic())
        if len(tries) >= 5:
            link.stopping.set()
        if len(tries) % 2:
            raise KeyError("ours")
        raise MemoryError

    link.do(work)
    link.start()
    link._thread.join(10)
    assert not link._thread.is_alive()
    waits = [after - before for before, after in pairwise(tries)]
    delays = [fields["retry_delay"] for event, fields in told if event == "redis_lost"]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert all(delay - 0.01 < wait for delay, wait in zip(delays, waits, strict=False))
    assert waits[0] < 5.0
    assert told[0][1]["level"] == "error"


def test_an_unreadable_address_is_refused_without_showing_it():
    with pytest.raises(BadUrl) as caught:
        Place("redis://user:secret@host:port/")
    assert "secret" not in str(caught.value)
    assert Place("redis://user:secret@somewhere/").clean("the secret is out") == "the *** is out"
    assert "secret" not in Place("redis://user:secret@somewhere:1234/0").address


def test_a_defect_ends_the_thread_and_is_told_while_an_outage_is_waited_out_and_a_new_start_waits_for_the_old_end():
    link = Link("x", Place("redis://localhost:1"), lambda _event, **_fields: None, lambda: 0.0)
    defects, waits, tries = [], [], []

    def work(_client):
        tries.append(threading.current_thread())
        assert sum(one.is_alive() for one in set(tries)) == 1, "two threads work at once"
        if len(tries) < 3:
            raise RedisConnectionError("away")
        if len(tries) == 3:
            raise KeyError("ours")
        link.up()
        link.stopping.wait(10)

    link.do(work)
    link.start(defects.append, waits.append)
    until(lambda: defects, "told")
    assert len(tries) == 3
    assert isinstance(defects[0], KeyError)
    link.start(defects.append, waits.append)
    until(lambda: link.connected, "up")
    link.halt()
    link.start(defects.append, waits.append)
    until(lambda: len(tries) == 5 and link.connected, "up again")
    assert link.stop(5)
    link.start(defects.append, waits.append)
    assert link.stop(1)
    assert len(tries) == 5, "it was stopped for good"
    assert len(defects) == 1
    assert waits[-1] is None
    assert "reconnecting after ConnectionError" in waits
    assert link.state()["restarts"] == 2
