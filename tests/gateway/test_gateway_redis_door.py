"""Messages in over a real Redis: formats, refusals, order, redelivery, poison."""

from __future__ import annotations

import json
import random
from collections import Counter

import msgpack
import pytest
from redis_running import CLI, SERVER, redis_server, until
from redis_support import QuickRouter, opened

from gateway import redis_inbox, redis_pubsub
from messages.inbound import Refused

pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")
HELLO = {"type": "user_message", "conversation_id": "c1", "text": "hello"}
FULL = Refused(code="mailbox_full", detail="full")


def body(text: str = "hello", conversation_id: str = "c1", **more) -> bytes:
    return json.dumps({**HELLO, "conversation_id": conversation_id, "text": text, **more}).encode()


@pytest.fixture(scope="module")
def shared():
    with redis_server() as server:
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


class TestPubSub:
    def test_what_may_be_accepted_all_the_same_is_no_dead_letter(self, server, redis):
        """Sent again from there, it would run twice."""
        unsure = Refused(code="store_unavailable", detail="nobody knows", uncertain=True)
        with opened(server, QuickRouter(refusals={"no": [unsure]})) as at:
            redis.publish("orch:inject:c1", "no")
            until(lambda: at.names("message_refused"), "the refusal")
            assert not at.letters

    def test_json_msgpack_and_text_are_taken(self, server, redis):
        with opened(server) as at:
            redis.publish("orch:inject", body("as JSON"))
            redis.publish("orch:inject", msgpack.packb({**HELLO, "text": "as msgpack"}))
            redis.publish("orch:inject:c:2.x-y", "as text")
            redis.publish("orch:inject:c1", body("on its own channel"))
            until(lambda: at.door.status()["pubsub"]["accepted"] == 4, "all four")
            assert sorted(at.router.texts) == ["as JSON", "as msgpack", "as text", "on its own channel"]
            assert at.router.submitted[2].conversation_id == "c:2.x-y"
            assert not at.letters

    def test_what_is_refused_becomes_a_dead_letter_and_is_answered_on_the_events_channel(self, server, redis):
        with opened(server, QuickRouter(refusals={"no": [FULL]})) as at, redis.pubsub() as events:
            events.subscribe("orch:events:c1")
            redis.publish("orch:inject", "plain text")
            redis.publish("orch:inject:c1", body("hello", "c2"))
            redis.publish("orch:inject:c1", "no")
            redis.publish("orch:inject:c1", "poison")
            until(lambda: len(at.letters) == 4, "four dead letters")
            codes = ["invalid_body", "invalid_field", "mailbox_full", "internal"]
            assert [letter.code for letter in at.letters] == codes
            assert at.letters[0].address == "orch:inject"
            assert at.letters[0].content == {"text": "plain text"}
            assert at.letters[2].content.text == "no"
            assert [told["code"] for told in at.names("message_refused")] == codes
            heard = []
            until(lambda: len(heard) == 3 or take(events, heard), "three refusals")
            assert [(event["type"], event["code"]) for event in heard] == [
                ("message.refused", code) for code in codes[1:]
            ]
            assert "seq" not in heard[0]

    @pytest.mark.skipif(CLI is None, reason="there is no redis-cli here")
    def test_redis_cli_can_send_all_forms(self, server, redis):
        with opened(server) as at:
            assert server.cli("PUBLISH", "orch:inject:c1", "from a shell") == "1"
            server.cli("PUBLISH", "orch:inject", body=msgpack.packb({**HELLO, "text": "bytes"}))
            entry_id = server.cli("XADD", "orch:inbox", "*", "message", body("durable").decode())
            until(lambda: len(at.router.submitted) == 3 and at.settled(), "all three")
            assert {"from a shell", "bytes", "durable"} == set(at.router.texts)
            ids = {message.message_id for message in at.router.submitted}
            assert f"inbox-{entry_id}" in ids

    def test_a_refused_plan_s_problems_are_all_named_in_the_answer_the_letter_and_the_log(self, server, redis):
        problems = (
            {"where": "nodes.a.agent", "problem": "there is no agent 'x'"},
            {"where": "nodes.b", "problem": "p"},
        )
        refused = Refused(code="invalid_plan", detail="2 problem(s) in the plan", problems=problems)
        words = "2 problem(s) in the plan: nodes.a.agent: there is no agent 'x'; nodes.b: p"
        with opened(server, QuickRouter(refusals={"no": [refused, refused]})) as at, redis.pubsub() as events:
            events.subscribe("orch:events:c1")
            redis.publish("orch:inject:c1", "no")
            until(lambda: len(at.letters) == 1, "the first")
            redis.xadd("orch:inbox", {"message": body("no")})
            until(lambda: len(at.letters) == 2, "the second")
            heard = []
            until(lambda: len(heard) == 2 or take(events, heard), "two refusals")
            assert [event["reason"] for event in heard] == [words, words]
            assert [letter.detail for letter in at.letters] == [words, words]
            assert [told["reason"] for told in at.names("message_refused")] == [words, words]

    def test_messages_that_are_never_answered_do_not_shut_the_door(self, server, redis, monkeypatch):
        monkeypatch.setattr(redis_pubsub, "MAX_OPEN", 3)
        monkeypatch.setattr(redis_pubsub, "PATIENCE", 0.05)
        with opened(server) as at:
            for _ in range(3):
                redis.publish("orch:inject:c1", "mute")
            redis.publish("orch:inject:c1", "no room")
            until(lambda: at.letters, "refused")
            assert at.letters[0].code == "mailbox_full"
            monkeypatch.setattr(redis_pubsub, "ANSWER_WITHIN", 0.0)
            redis.publish("orch:inject:c1", "room again")
            until(lambda: at.router.texts == ["room again"], "taken")


def take(events, heard):
    message = events.get_message(ignore_subscribe_messages=True, timeout=0.1)
    if message is not None:
        heard.append(json.loads(message["data"]))


class TestStream:
    def test_entries_are_settled_when_accepted_or_refused_for_good(self, server, redis):
        conflict = Refused(code="message_id_conflict", detail="another body")
        with opened(server, QuickRouter(refusals={"again": [conflict]})) as at:
            first = redis.xadd("orch:inbox", {"message": body("one")}).decode()
            redis.xadd("orch:inbox", {"message": msgpack.packb({**HELLO, "text": "two", "message_id": "m2"})})
            redis.xadd("orch:inbox", {"message": body("again")})
            redis.xadd("orch:inbox", {"message": "rubbish"})
            redis.xadd("orch:inbox", {"text": "no such field"})
            redis.xadd("orch:inbox", {"message": body(type="cancel", text="x")})
            until(at.settled, "settled")
            assert [message.message_id for message in at.router.submitted] == [f"inbox-{first}", "m2"]
            codes = [letter.code for letter in at.letters]
            assert sorted(codes) == ["invalid_body", "invalid_field", "invalid_field", "message_id_conflict"]
            assert all(letter.address.startswith("orch:inbox/") for letter in at.letters)

    def test_what_was_sent_before_the_first_daemon_came_is_taken(self, server, redis):
        redis.xadd("orch:inbox", {"message": body("early")})
        with opened(server) as at:
            until(at.settled, "settled")
            assert at.router.texts == ["early"]

    def test_order_is_kept_in_a_conversation_that_is_full_while_others_go_on(self, server, redis, monkeypatch):
        """Also when more wait than are kept in memory."""
        monkeypatch.setattr(redis_inbox, "MAX_LOADED", 8)
        router = QuickRouter(refusals={"a0": [FULL] * 4, "a3": [FULL] * 2})
        with opened(server, router) as at:
            pipeline = redis.pipeline()  # or the first may be taken before the other one is there
            for number in range(30):
                pipeline.xadd("orch:inbox", {"message": body(f"a{number}", "a")})
            pipeline.xadd("orch:inbox", {"message": body("b", "b")})
            pipeline.execute()
            until(at.settled, "settled")
            assert router.texts == ["b", *[f"a{number}" for number in range(30)]]
            assert not at.letters
            assert at.door.status()["inbox"]["retried"] == 6

    def test_a_draining_daemon_leaves_entries_to_the_next(self, server, redis):
        router = QuickRouter(draining=True)
        with opened(server, router) as at:
            redis.xadd("orch:inbox", {"message": body("later")})
            assert not at.settled()
            assert redis.xlen("orch:inbox") == 1
        with opened(server) as at:
            until(at.settled, "settled")
            assert at.router.texts == ["later"]

    def test_entries_refused_for_a_while_stay_pending_and_are_not_counted_as_failed(self, server, redis):
        """A store that is down over many restarts makes no dead letters."""
        down = Refused(code="store_unavailable", detail="gone")
        redis.xadd("orch:inbox", {"message": body("waits")})
        for _ in range(8):
            with opened(server, QuickRouter(refuse=down)) as at:
                until(lambda at=at: at.door.status()["inbox"]["retried"], "a refusal")
            assert redis.xpending("orch:inbox", "orchestrator")["pending"] == 1
            assert not at.letters
        with opened(server) as at:
            until(at.settled, "settled")
            assert at.router.texts == ["waits"]

    def test_a_message_that_cannot_be_handled_is_a_dead_letter_after_five_tries(self, server, redis, monkeypatch):
        monkeypatch.setattr(redis_inbox, "_FIRST_DELAY", 0.01)
        with opened(server) as at:
            redis.xadd("orch:inbox", {"message": body("poison")})
            redis.xadd("orch:inbox", {"message": body("behind it")})
            until(at.settled, "settled")
            assert Counter(at.router.asked) == {"poison": 5, "behind it": 1}
            (letter,) = at.letters
            assert letter.code == "delivered_too_often"
            assert "cannot be handled" in letter.detail
            assert letter.content.text == "poison"

    def test_an_entry_that_daemons_died_of_five_times_is_a_dead_letter_with_its_payload(self, server, redis):
        redis.xgroup_create("orch:inbox", "orchestrator", id="0", mkstream=True)
        bad = redis.xadd("orch:inbox", {"message": body("deadly")})
        redis.xadd("orch:inbox", {"message": body("unlucky")})
        redis.xreadgroup("orchestrator", "dead", {"orch:inbox": ">"})
        for _ in range(4):
            redis.xclaim("orch:inbox", "orchestrator", "dead", 0, [bad])
        with opened(server) as at:
            until(at.settled, "settled")
            assert at.router.texts == ["unlucky"]
            (letter,) = at.letters
            assert letter.code == "delivered_too_often"
            assert letter.content["text"] == "deadly"
            assert at.door.status()["inbox"]["claimed"] == 2

    def test_entries_of_a_consumer_that_dies_while_we_run_are_claimed(self, server, redis, monkeypatch):
        monkeypatch.setattr(redis_inbox, "_IDLE_MS", 50)
        monkeypatch.setattr(redis_inbox, "_SWEEP_EVERY", 0.05)
        router = QuickRouter(draining=True)
        with opened(server, router) as at:
            redis.xadd("orch:inbox", {"message": body("orphan")})
            redis.xreadgroup("orchestrator", "another", {"orch:inbox": ">"})
            router.draining = False
            until(at.settled, "settled")
            assert router.texts == ["orphan"]

    def test_all_that_a_dead_daemon_left_is_taken_over_at_once_and_in_order(self, server, redis, monkeypatch):
        """Also when it is more than there is room for, and before anything new."""
        monkeypatch.setattr(redis_inbox, "MAX_LOADED", 20)
        redis.xgroup_create("orch:inbox", "orchestrator", id="0", mkstream=True)
        for number in range(300):
            redis.xadd("orch:inbox", {"message": body(str(number))})
        redis.xreadgroup("orchestrator", "dead", {"orch:inbox": ">"}, count=290)
        with opened(server) as at:
            until(at.settled, "settled", 20)
            assert at.router.texts == [str(number) for number in range(300)]

    def test_a_message_the_daemon_never_answers_is_asked_again(self, server, redis, monkeypatch):
        monkeypatch.setattr(redis_inbox, "ANSWER_WITHIN", 0.05)
        monkeypatch.setattr(redis_inbox, "_FIRST_DELAY", 0.01)
        with opened(server) as at:
            redis.xadd("orch:inbox", {"message": body("mute")})
            until(at.settled, "settled")
            assert at.router.asked == ["mute"] * 5
            assert "no answer" in at.letters[0].detail

    def test_the_same_message_over_both_doors_is_one(self, server, redis):
        with opened(server) as at:
            redis.publish("orch:inject", body("once", message_id="m1"))
            until(lambda: at.router.journal.get("c1"), "the first")
            redis.xadd("orch:inbox", {"message": body("once", message_id="m1")})
            until(at.settled, "settled")
            assert len(at.router.journal["c1"]) == 1

    def test_a_dead_letter_the_store_cannot_take_stays_in_the_stream(self, server, redis, monkeypatch):
        monkeypatch.setattr(redis_inbox, "_IDLE_MS", 50)
        monkeypatch.setattr(redis_inbox, "_SWEEP_EVERY", 0.05)
        with opened(server) as at:
            willing, offered = [], []

            def bury(letter):
                offered.append(letter)
                at.letters.extend([letter] * len(willing))
                if willing:
                    letter.written(True)
                return bool(willing)

            at.door.inbox._settling._bury = bury
            redis.xadd("orch:inbox", {"message": "rubbish"})
            until(lambda: len(offered) >= 2, "looked at again")
            assert at.door.status()["inbox"]["refused"] == 0
            assert redis.xpending("orch:inbox", "orchestrator")["pending"] == 1
            willing.append(True)
            until(at.settled, "settled")
            assert len(at.letters) == 1

    def test_an_entry_is_acknowledged_when_its_dead_letter_is_in_the_store_and_not_before(
        self, server, redis, monkeypatch
    ):
        monkeypatch.setattr(redis_inbox, "_IDLE_MS", 50)
        monkeypatch.setattr(redis_inbox, "_SWEEP_EVERY", 0.05)
        with opened(server) as at:
            offered = []

            def bury(letter):
                offered.append(letter)
                return True

            at.door.inbox._settling._bury = bury
            redis.xadd("orch:inbox", {"message": "rubbish"})
            until(lambda: offered, "handed over")
            redis.xadd("orch:inbox", {"message": body("another")})
            until(lambda: "another" in at.router.texts, "the door goes on")
            assert redis.xpending("orch:inbox", "orchestrator")["pending"] >= 1
            offered[0].written(False)
            until(lambda: len(offered) >= 2, "it came again")
            assert redis.xlen("orch:inbox") == 1
            offered[-1].written(True)
            until(at.settled, "settled")


def mutated(chance: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(chance.randrange(4)):
        where = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                del data[where : where + chance.randrange(1, 9)]
            case 1:
                data[where:where] = chance.randbytes(chance.randrange(1, 9))
            case 2:
                data[where : where + 1] = bytes([chance.randrange(256)])
            case _:
                data[where:where] = data[: chance.randrange(20)]
    return bytes(data)


def test_5000_random_and_mutated_messages_are_all_counted_and_nothing_breaks(server, redis):
    """Each ends accepted or refused, over either way in; the links never go down."""
    chance = random.Random(20261120)
    plan = {"nodes": [{"id": "a", "agent": "x", "inputs": {"k": {"$from": "b.c"}}}]}
    seeds = [body("text"), body("planned", plan=plan, user_id="u"), b'{"type": "cancel", "conversation_id": "c1"}']
    seeds += [msgpack.packb(json.loads(seed)) for seed in seeds]
    sent = 2_500
    with opened(server, QuickRouter()) as at:
        pipeline = redis.pipeline(transaction=False)
        for number in range(sent):
            good = chance.choice(seeds)
            data = chance.randbytes(chance.randrange(60)) if number % 5 == 0 else mutated(chance, good)
            channel = chance.choice(["orch:inject", "orch:inject:c1", "orch:inject:\xff bad"])
            pipeline.publish(channel, data)
            fields = {"message": mutated(chance, good)} if number % 9 else {chance.randbytes(3): data}
            pipeline.xadd("orch:inbox", fields)
        assert all(answer for answer in pipeline.execute())
        until(at.settled, "settled", 30)
        until(lambda: at.door.status()["pubsub"]["received"] == sent, "all heard")
        status = at.door.status()
        until(lambda: sum(at.door.status()["pubsub"][key] for key in ("accepted", "refused")) == sent, "all answered")
        assert status["inbox"]["received"] == status["inbox"]["accepted"] + status["inbox"]["refused"] == sent
        refused = status["inbox"]["refused"] + at.door.status()["pubsub"]["refused"]
        until(lambda: len(at.letters) >= refused, "the last one is counted before it is kept")
        assert len(at.letters) == refused
        assert min(status["inbox"]["accepted"], status["inbox"]["refused"]) > 200
        assert not at.names("redis_lost")
        assert status["connected"]
