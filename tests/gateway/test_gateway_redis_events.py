"""Events out over a real Redis: published and logged, once each, and caught up after every kind of absence."""

from __future__ import annotations

import json
import time

import pytest
from gateway_support import row
from redis_running import SERVER, redis_server, until
from redis_support import QuickRouter, opened

from gateway import redis_events, redis_passing
from messages.events import PhaseChanged, ReplySent

pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")


@pytest.fixture(scope="module")
def shared():
    with redis_server("--appendonly", "yes") as server:
        yield server


@pytest.fixture
def server(shared):
    with shared.client() as client:
        client.flushall()
    return shared


@pytest.fixture
def redis(server):
    with server.client() as client:
        yield client


def logged(redis, conversation_id: str) -> list[int]:
    """Return the sequence numbers in a log; entry ids and events must agree."""
    entries = redis.xrange(f"orch:log:{conversation_id}")
    numbers = [json.loads(fields[b"event"])["seq"] for _, fields in entries]
    assert [entry_id.decode() for entry_id, _ in entries] == [f"{number}-0" for number in numbers]
    return numbers


def whole(redis, router, conversation_id: str) -> bool:
    return logged(redis, conversation_id) == list(range(1, router.seq(conversation_id) + 1))


def test_events_are_published_and_logged_alike_and_progress_is_published_only(server, redis):
    with opened(server) as at, redis.pubsub() as events:
        events.subscribe("orch:events:c1")
        events.get_message(timeout=1)
        at.router.tick("c1")
        at.router.progress("c1", "half")
        at.router.tick("c1")
        at.router.tick("c2")
        heard = []

        def three():
            message = events.get_message(ignore_subscribe_messages=True, timeout=0.1)
            if message:
                heard.append(message["data"])
            return len(heard) == 3

        until(three, "three events")
        until(lambda: whole(redis, at.router, "c1") and whole(redis, at.router, "c2"), "the logs")
        assert [json.loads(data).get("seq") for data in heard] == [1, None, 2]
        assert [fields[b"event"] for _, fields in redis.xrange("orch:log:c1")] == [heard[0], heard[2]]
        assert 0 < redis.pttl("orch:log:c1") <= 60_000


def _reply(conversation_id: str, seq: int) -> ReplySent:
    return ReplySent(seq=seq, at=1, conversation_id=conversation_id, message_id="m", status="completed")


def test_events_gather_until_a_reply_to_somebody_who_asked_over_redis(server, redis, monkeypatch):
    """Nothing is sent for those who asked over HTTP alone; what gathered goes along with the first awaited reply."""
    monkeypatch.setattr(redis_events, "GATHER", 60.0)

    def sends() -> int:
        return redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]

    redis.script_load(redis_passing._ON_THE_SERVER)  # or the first send would be two

    with opened(server) as at:
        before = sends()
        at.router.tick("http")
        at.router.feed.publish([_reply("http", 2)])
        assert redis.publish("orch:inject:here", "hello") == 1
        redis.xadd("orch:inbox", {"message": '{"type":"user_message","conversation_id":"there","text":"hello"}'})

        def journaled(conversation_id: str) -> int:
            with at.router.lock:  # what is journaled by then is handed over as well
                return at.router.seq(conversation_id)

        until(lambda: journaled("here") and journaled("there"), "both")
        begun = at.router.seq("here")
        at.router.feed.publish([_reply("here", begun + 1)])
        until(lambda: logged(redis, "here") == list(range(1, begun + 2)), "the reply over pub/sub")
        assert logged(redis, "http") == [1, 2]
        begun = at.router.seq("there")
        at.router.feed.publish([_reply("there", begun + 1)])
        until(lambda: logged(redis, "there") == list(range(1, begun + 2)), "the reply over the stream")
        assert sends() - before == 2


def test_what_nobody_waits_for_is_sent_all_the_same(server, redis):
    """Also when the thread slept long, or had sent a moment before."""
    with opened(server) as at:
        began = time.monotonic()
        for count in range(1, 6):
            at.router.tick("c1")
            until(lambda count=count: logged(redis, "c1") == list(range(1, count + 1)), "the event")
        assert time.monotonic() - began < 2.5, "it slept half a second each time"


def test_a_log_is_trimmed_about_at_its_length(server, redis):
    with opened(server, redis_log_length=50) as at:
        for _ in range(1_000):
            at.router.tick("c1")
        until(lambda: at.door.status()["events"]["logged"] == 1_000, "all logged")
        numbers = logged(redis, "c1")
        assert numbers == list(range(numbers[0], 1_001))
        assert len(numbers) < 300


def test_events_of_an_outage_are_caught_up_from_the_journal(server, redis):
    """The server is killed under traffic; nobody who publishes waits, and no log has a gap or a double."""
    with opened(server) as at:
        for number in range(3):
            at.router.tick(f"c{number}")
        until(lambda: whole(redis, at.router, "c2"), "the beginning")
        server.kill()
        began = time.monotonic()
        for _ in range(200):
            for number in range(5):
                at.router.tick(f"c{number}")
            at.router.progress("c1", "lost")
        assert time.monotonic() - began < 5
        until(lambda: not at.door.connected, "noticed")
        at.router.progress("c1", "lost")
        server.start()
        for _ in range(100):
            at.router.tick("c1")
        until(lambda: all(whole(redis, at.router, f"c{n}") for n in range(5)), "caught up")
        assert at.door.status()["events"]["dropped"] >= 1
        until(lambda: at.door.status()["events"]["caught_up"], "that is counted a moment later")


def test_what_overflows_is_caught_up_too(server, redis, monkeypatch):
    monkeypatch.setattr(redis_events, "QUEUE_LIMIT", 10)
    with opened(server) as at:
        for _ in range(500):
            at.router.tick("c1")
            at.router.tick("c2")
        until(lambda: whole(redis, at.router, "c1") and whole(redis, at.router, "c2"), "both logs")


def test_what_a_dead_daemon_did_not_pass_on_is_caught_up_at_the_next_start(server, redis):
    """Both unfinished conversations and those that changed since the logs were last known to be complete."""
    router = QuickRouter()
    for _ in range(4):
        for conversation_id in ("unfinished", "finished", "old"):
            router.tick(conversation_id)
    now = int(time.time() * 1000)
    redis.set("orch:log-mark", now)
    router.rows = [row("finished", now), row("old", now - 3_600_000)]
    with opened(server, router, unfinished=("unfinished",)) as at:
        until(lambda: whole(redis, at.router, "unfinished") and whole(redis, at.router, "finished"), "both logs")
        assert logged(redis, "old") == []
        at.router.tick("old")
        until(lambda: whole(redis, at.router, "old"), "the old one, when it goes on")


def test_without_a_mark_the_past_is_left_alone(server, redis):
    router = QuickRouter()
    router.tick("past")
    router.rows = [row("past", int(time.time() * 1000))]
    with opened(server, router):
        until(lambda: redis.get("orch:log-mark"), "the mark")
        assert logged(redis, "past") == []


def test_a_log_of_another_journal_is_begun_anew(server, redis):
    """As after a daemon with a store in memory."""
    redis.xadd("orch:log:c1", {"event": '{"seq": 7}'}, id="7-0")
    with opened(server) as at:
        at.router.tick("c1")
        until(lambda: whole(redis, at.router, "c1"), "the new log")
        at.router.tick("c1")
        until(lambda: whole(redis, at.router, "c1"), "its continuation")


def test_a_log_deleted_while_we_run_goes_on_where_it_is(server, redis):
    """Ids tell what is missing; the next connection fills it in."""
    with opened(server) as at:
        for _ in range(3):
            at.router.tick("c1")
        until(lambda: whole(redis, at.router, "c1"), "the log")
        redis.delete("orch:log:c1")
        at.router.tick("c1")
        until(lambda: logged(redis, "c1") == [4], "the next")


def test_a_journal_that_cannot_be_read_holds_up_nobody_else(server, redis):
    router = QuickRouter()
    router.tick("broken")
    events = router.events

    def reading(conversation_id, after, limit):
        if conversation_id == "broken":
            raise ValueError("corrupt")
        return events(conversation_id, after, limit)

    router.events = reading
    with opened(server, router, unfinished=("broken",)) as at:
        at.router.tick("c1")
        until(lambda: whole(redis, at.router, "c1"), "the other one")
        until(lambda: at.names("publish_failed"), "the complaint")
        assert at.names("publish_failed")[0]["conversation_id"] == "broken"
        assert at.door.connected


def test_a_store_that_is_away_is_waited_for(server, redis):
    router = QuickRouter()
    router.tick("c1")
    router.store_down = True
    with opened(server, router, wait=False, unfinished=("c1",)) as at:
        until(lambda: at.door.status()["events"]["last_error"], "it was said")
        router.store_down = False
        until(lambda: whole(redis, at.router, "c1"), "caught up")


def test_a_server_without_room_is_said_and_waited_for(server, redis):
    """Nothing is lost and nothing spins while every write is refused."""
    with opened(server) as at:
        at.router.tick("c1")
        until(lambda: whole(redis, at.router, "c1"), "the first")
        redis.config_set("maxmemory", "1")
        try:
            at.router.tick("c1")
            until(lambda: at.names("publish_failed"), "it was said")
            tries = len(at.names("publish_failed"))
            at.router.tick("c1")
            assert at.names("publish_failed")[0]["error_message"].startswith("OOM command not allowed")
            assert tries < 20
        finally:
            redis.config_set("maxmemory", "0")
        until(lambda: whole(redis, at.router, "c1"), "the rest")


def test_an_event_that_cannot_be_encoded_harms_only_itself(server, redis):
    with opened(server) as at:
        at.router.feed.publish(
            [PhaseChanged(seq=1, at=1, conversation_id="c9", from_phase="a", to_phase="b", cause="\ud800")]
        )
        at.router.tick("c1")
        until(lambda: whole(redis, at.router, "c1"), "the other one")
