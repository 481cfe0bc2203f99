"""One daemon inside the test's process, on the memory store: policies, repetitions, planners, synthesizers, caches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import policy_agents
import pytest

from actors.ref import Stop
from config import Settings
from daemon import Daemon
from messages.inbound import Accepted, Cancel, Pause, Refused, Resume, UserMessage
from messages.plan import Plan
from serving import make_telemetry

DEADLINE = 15.0


class Talk:
    """Talks to a daemon as a gateway would."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.events: list[Any] = []
        self._changed = threading.Condition()
        # Before it starts: what it takes up at once is heard.
        daemon.feed.subscribe(None, self._hear, quick=True)

    def _hear(self, event: Any) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def ask(self, message: Any) -> Accepted | Refused:
        box: list[Any] = []
        done = threading.Event()

        def answer(what: Any) -> None:
            box.append(what)
            done.set()

        assert self.daemon.router is not None
        self.daemon.router.submit(message, answer)
        assert done.wait(DEADLINE)
        return box[0]

    def say(self, text: str = "hi", plan: Any = None, conversation_id: str = "c", **fields: Any) -> Accepted | Refused:
        resolved = None if plan is None else Plan.model_validate(plan)
        return self.ask(UserMessage(conversation_id=conversation_id, text=text, plan=resolved, **fields))

    def wait_for(self, kind: str, count: int = 1, **fields: Any) -> list[Any]:
        def found() -> list[Any]:
            return [e for e in self.events if e.type == kind and all(getattr(e, k) == v for k, v in fields.items())]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, DEADLINE), (kind, fields, self.events)
            return found()


@contextmanager
def talking(**settings: Any) -> Iterator[Talk]:
    policy_agents.CALLS.clear()
    policy_agents.GATE.clear()
    settings = {"state_storage": "memory", **settings}
    chosen = Settings(agents_from=("policy_agents",), http_bind="off", log_level="CRITICAL", **settings)
    telemetry = make_telemetry(chosen)
    try:
        daemon = Daemon(chosen, telemetry)
        talk = Talk(daemon)
        try:
            daemon.start()
            yield talk
            policy_agents.GATE.set()
            daemon.drain(chosen.drain_timeout)
        finally:
            daemon.stop()
    finally:
        policy_agents.GATE.set()
        telemetry.close(2.0)


@pytest.fixture
def talk() -> Iterator[Talk]:
    with talking() as each:
        yield each


def one(agent: str, **fields: Any) -> dict[str, Any]:
    return {"nodes": [{"id": "n", "agent": agent, **fields}]}


def test_the_same_message_id_twenty_times_at_once_is_one_run(talk):
    """Every caller gets that run's request, whoever was first."""
    answers: list[Any] = []
    start = threading.Barrier(20)

    def send() -> None:
        start.wait()
        answers.append(talk.say(plan=one("quick"), message_id="m1"))

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.request_id for answer in answers}) == 1
    assert sum(not answer.duplicate for answer in answers) == 1
    talk.wait_for("reply.sent")
    assert policy_agents.CALLS == ["quick"]
    late = talk.say(plan=one("quick"), message_id="m1")
    assert late.duplicate
    assert late.reply_seq == talk.events[-2].seq
    conflict = talk.say("other words", message_id="m1")
    assert (type(conflict), conflict.code) == (Refused, "message_id_conflict")


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
def test_a_newer_message_takes_over(talk, policy):
    """The running request is answered as cancelled; a rollback takes it out of what agents are told."""
    talk.say("old question", one("gated"))
    talk.wait_for("node.started")
    talk.say("new question", one("contextual"), busy_policy=policy)
    old, new = talk.wait_for("reply.sent", 2)
    assert (old.status, old.forgotten) == ("cancelled", policy == "rollback")
    assert new.status == "completed"
    assert ("old question" in new.data["n"]["context"]) == (policy == "interrupt")


def test_reject_refuses_while_a_request_runs(talk):
    """The sender is told, and the running request goes on."""
    talk.say("one", one("gated"))
    refused = talk.say("two", one("quick"), busy_policy="reject")
    assert refused.code == "conversation_busy"
    policy_agents.GATE.set()
    assert talk.wait_for("reply.sent")[0].status == "completed"


def test_cancel_during_a_blocking_agent_answers_at_once(talk):
    """The thread is left to itself; its late result is a dead letter, never a result."""
    talk.say("one", one("gated"))
    talk.wait_for("node.started")
    assert isinstance(talk.ask(Cancel(conversation_id="c")), Accepted)
    assert talk.wait_for("reply.sent")[0].status == "cancelled"
    policy_agents.GATE.set()
    assert talk.say("two", one("quick")).seq
    assert talk.wait_for("reply.sent", 2)[1].status == "completed"


def test_control_in_the_wrong_state_is_refused(talk):
    """Nothing to cancel, nothing to resume, no such conversation."""
    assert talk.ask(Cancel(conversation_id="nobody")).code == "not_found"
    talk.say("one", one("quick"))
    talk.wait_for("reply.sent")
    assert talk.ask(Cancel(conversation_id="c")).code == "wrong_state"
    assert talk.ask(Resume(conversation_id="c")).code == "wrong_state"
    assert isinstance(talk.ask(Pause(conversation_id="c")), Accepted)
    assert talk.ask(Pause(conversation_id="c")).code == "wrong_state"


def test_a_plan_that_needs_approval_waits_for_a_person(talk):
    """Not one of its agents runs before `resume`."""
    talk.say("one", {"nodes": [{"id": "a", "agent": "quick"}, {"id": "b", "agent": "risky"}]})
    talk.wait_for("phase.changed", to_phase="awaiting_approval")
    assert policy_agents.CALLS == []
    talk.ask(Resume(conversation_id="c", by="ann"))
    assert talk.wait_for("reply.sent")[0].status == "completed"


def test_a_result_is_reused_while_it_lasts(talk):
    """By agent, contract and inputs, over all conversations."""
    for number, conversation in enumerate("ab"):
        talk.say("x", one("cached", inputs={"text": "same"}), conversation)
        talk.wait_for("reply.sent", number + 1)
    talk.say("x", one("cached", inputs={"text": "other"}), "c")
    replies = talk.wait_for("reply.sent", 3)
    assert [reply.data["n"]["text"] for reply in replies] == ["same", "same", "other"]
    assert policy_agents.CALLS == ["cached", "cached"]
    assert [event.cached for event in talk.wait_for("node.succeeded", 3)] == [False, True, False]


def test_an_agent_is_told_the_conversation_so_far(talk):
    """The question itself is not repeated in the context."""
    talk.say("my name is Ann", one("quick"), user_id="u7")
    talk.wait_for("reply.sent")
    talk.say("what is my name?", one("contextual"), user_id="u7")
    told = talk.wait_for("reply.sent", 2)[1].data["n"]
    assert "user: my name is Ann" in told["context"]
    assert "what is my name?" not in told["context"]
    assert told["question"] == "what is my name?"
    assert told["user"] == "u7"


def test_a_planner_of_ones_own_may_be_async_and_is_told_what_failed():
    """A node that fails with `replan` brings the planner back once more."""
    with talking(planner="policy_agents:plan_later") as talk:
        talk.say("please")
        (reply,) = talk.wait_for("reply.sent")
        assert reply.status == "completed"
        assert reply.data == {"other": {"text": "instead"}}
        assert policy_agents.CALLS == ["plan", "failing", "plan", "quick"]


def test_replan_with_the_default_planner_and_nothing_left_to_try_tells_what_there_is_and_what_is_missing():
    """It was called completed, with nothing missing and without a word of what was found."""
    with talking() as talk:
        done = {"id": "done", "agent": "quick", "inputs": {"text": "found"}}
        talk.say("zzz", {"nodes": [done, {"id": "lost", "agent": "failing", "on_failure": "replan"}]})
        (reply,) = talk.wait_for("reply.sent")
        assert (reply.status, reply.data) == ("partial", {"done": {"text": "found"}})
        assert [missing.node for missing in reply.missing] == ["lost", "planner"]
        assert "found" in reply.text and "PermanentError: never" in reply.text


@pytest.mark.parametrize(
    ("planner", "words"), [("plan_raising", "RuntimeError: no idea"), ("plan_later", "no agent 'nobody'")]
)
def test_a_planner_that_fails_or_plans_nonsense_fails_the_request_truthfully(planner, words):
    """The reason is in the reply; the daemon goes on."""
    with talking(planner=f"policy_agents:{planner}", base_retry_delay=0.01, max_retries=1) as talk:
        talk.say("unknown")
        (reply,) = talk.wait_for("reply.sent")
        assert reply.status == "failed"
        assert words in reply.text
        talk.say("x", one("quick"))
        assert talk.wait_for("reply.sent", 2)[1].status == "completed"


@pytest.mark.parametrize(
    ("synthesizer", "status", "words"),
    [("say_shortly", "completed", "1 results for x"), ("say_nothing", "partial", "RuntimeError: speechless")],
)
def test_a_synthesizer_of_ones_own_and_one_that_fails(synthesizer, status, words):
    """Results are never thrown away because nobody found words for them."""
    with talking(synthesizer=f"policy_agents:{synthesizer}", base_retry_delay=0.01, max_retries=1) as talk:
        talk.say("x", one("quick"))
        (reply,) = talk.wait_for("reply.sent")
        assert (reply.status, reply.data) == (status, {"n": {"text": "x"}})
        assert words in reply.text


def test_a_hundred_conversations_leave_nothing_running(talk):
    """When all are answered, only supervisors are left."""
    for number in range(100):
        talk.say("x", one("quick"), f"c{number}")
    talk.wait_for("reply.sent", 100)
    talk.wait_for("phase.changed", 100, to_phase="completed")
    done = threading.Event()
    for _ in range(750):
        kinds = {row["kind"] for row in talk.daemon.system.tree.rows()}
        if kinds == {"root", "router", "supervisor"}:
            break
        done.wait(0.02)
    assert kinds == {"root", "router", "supervisor"}
    assert talk.daemon.system.dead_letters.total == 0


def test_progress_that_is_no_text_fails_its_own_node_only(talk):
    """What an agent does wrong never reaches its supervisor."""
    talk.say("x", {"nodes": [{"id": "bad", "agent": "mumbling"}, {"id": "good", "agent": "quick"}]})
    (reply,) = talk.wait_for("reply.sent")
    assert reply.status == "partial"
    assert "progress takes a text, not int" in reply.missing[0].reason


def test_a_node_that_failed_for_good_leaves_no_row_in_the_tree(talk):
    """Neither while the conversation lives nor after."""
    talk.say("x", one("refused"))
    assert talk.wait_for("reply.sent")[0].missing[0].attempts == 2
    talk.wait_for("phase.changed", to_phase="failed")
    assert [row["path"] for row in talk.daemon.system.tree.rows()] == ["/", "/conversations", "/conversations/c"]


def test_restarts_that_a_person_asks_for_say_nothing_against_a_conversation(talk):
    """Twenty in a row do not quarantine it, and every message is answered."""
    for number in range(20):
        talk.say("x", one("quick"))
        talk.wait_for("reply.sent", number + 1)
        path = "/conversations/c"
        before = talk.daemon.system.find(path)
        assert talk.daemon.views.restart(path)
        done = threading.Event()
        for _ in range(1_500):
            now = talk.daemon.system.find(path)
            if now is not None and now is not before:
                break
            done.wait(0.01)
    assert not [event for event in talk.events if event.type == "conversation.quarantined"]


def _broken(talk, *, entries: bool) -> Any:
    """Spoil what is stored of `c`, let it wake again, and return its rows."""
    talk.say("x", one("quick"))
    talk.wait_for("phase.changed", to_phase="completed")
    held = talk.daemon.store.data.conversations["c"]
    good = held.snapshot, list(held.entries)
    held.snapshot = b"rubbish"
    if entries:
        del held.entries[1]
    talk.daemon.views.restart("/conversations/c")
    return held, good


def test_a_conversation_whose_snapshot_is_rubbish_goes_on_from_its_journal(talk):
    """And its next step replaces the snapshot, long before the turn is over: retention may cut the journal."""
    held, _ = _broken(talk, entries=False)
    assert isinstance(talk.say("y", one("stubborn")), Accepted)
    assert held.snapshot != b"rubbish"
    policy_agents.GATE.set()
    talk.wait_for("reply.sent", 2)
    assert not [event for event in talk.events if event.type == "conversation.quarantined"]


def test_what_cannot_be_read_is_quarantined_and_refused_until_it_is_repaired(talk):
    """No endless restarts; everybody is told why, others are not disturbed, and `resume` tries again."""
    held, (snapshot, entries) = _broken(talk, entries=True)
    (event,) = talk.wait_for("conversation.quarantined")
    assert "cannot be read" in event.reason
    assert (held.phase, held.unfinished) == ("paused", False)
    newest = held.last_seq
    for answer in (talk.say("y", one("quick")), talk.ask(Resume(conversation_id="c"))):
        assert isinstance(answer, Refused)
        assert answer.code == "unreadable"
        assert "missing" in answer.detail
    assert held.last_seq == newest
    assert isinstance(talk.say("z", one("quick"), "other"), Accepted)
    shown = talk.daemon.views.conversation("c")
    assert shown["quarantined"] == event.reason
    said = talk.daemon.views.status()["quarantined"]
    assert (said["count"], said["conversations"]) == (1, [{"conversation_id": "c", "reason": event.reason}])

    held.snapshot, held.entries = snapshot, entries + held.entries[len(entries) - 1 :]
    assert isinstance(talk.ask(Resume(conversation_id="c")), Accepted)
    assert isinstance(talk.say("y", one("quick")), Accepted)
    talk.wait_for("reply.sent", 2, conversation_id="c")
    assert talk.daemon.views.status()["quarantined"]["count"] == 0
    assert talk.daemon.views.conversation("c")["quarantined"] is None


def test_a_timeout_holds_for_an_agent_whose_loop_is_blocked_by_another(talk):
    """An async agent that blocks delays other async agents; it cannot make them wait beyond their timeout."""
    policy_agents.HELD.clear()
    talk.say("x", one("stubborn"), "blocker")
    assert policy_agents.HELD.wait(10)
    talk.say("y", {"nodes": [{"id": "n", "agent": "quick", "timeout": 0.3, "retries": 0}]}, "victim")
    (reply,) = talk.wait_for("reply.sent", conversation_id="victim")
    assert reply.missing[0].reason.startswith("timeout")
    (failed,) = talk.wait_for("node.failed", conversation_id="victim")
    assert 290 <= failed.duration_ms < 5_000
    policy_agents.GATE.set()
    assert talk.wait_for("reply.sent", conversation_id="blocker")[0].status == "completed"


def test_nobody_is_left_without_an_answer_while_a_supervisor_leaves(talk):
    """A message that comes just then is taken by its successor."""
    path = "/conversations/c"
    for number in range(300):
        answer = talk.say("x", {"answer": "y"})
        assert isinstance(answer, Accepted)
        talk.wait_for("phase.changed", number + 1, to_phase="completed")
        ref = talk.daemon.system.find(path)
        if ref is not None:
            talk.daemon.system.tell(ref, Stop(ref))  # what a supervisor tells itself when it passivates
    assert len(talk.wait_for("reply.sent", 300)) == 300


def test_an_agent_left_alone_is_waited_for_and_its_breaker_is_shown():
    """Two failures open it; the third try is refused at once, waits for the time left, and then succeeds."""
    with talking() as talk:
        talk.say(plan={"nodes": [{"id": "a", "agent": "ailing"}]})
        refused = talk.wait_for("node.failed", 3)[2]
        assert (refused.error.type, refused.error.error_class) == ("circuit_open", "transient")
        assert 0 < refused.error.retry_after <= 2.0
        waited = talk.wait_for("node.retrying", 3)[2]
        assert waited.delay == refused.error.retry_after
        assert "Retry-After" in waited.reason
        shown = talk.daemon.views.status()["agents"]["ailing"]
        assert shown["breaker"] in ("open", "half_open", "closed")
        assert talk.wait_for("reply.sent")[0].status == "completed"
        assert policy_agents.CALLS == ["ailing"] * 3
        assert talk.daemon.views.status()["agents"]["ailing"]["breaker"] == "closed"
        metrics = talk.daemon.telemetry.metrics_text().decode()
        assert 'orchestrator_agent_breaker_state{agent="ailing"} 0.0' in metrics
        assert 'orchestrator_agent_calls_waiting{agent="ailing"} 0.0' in metrics
        assert 'orchestrator_breaker_openings_total{agent="ailing"} 1.0' in metrics


def test_beyond_the_bound_of_unfinished_requests_nothing_is_accepted():
    """Refused before anything is journaled; what is accepted goes on, repetitions and control are still answered."""
    with talking(max_unfinished=2) as talk:
        held = {"nodes": [{"id": "a", "agent": "gated"}]}
        talk.say(plan=held, conversation_id="c1", message_id="m1")
        talk.say(plan=held, conversation_id="c2")
        for message_id in (None, "m3"):
            refused = talk.say(plan=held, conversation_id="c3", message_id=message_id)
            assert isinstance(refused, Refused)
            assert (refused.code, refused.retry_after) == ("mailbox_full", 2.0)
        assert talk.daemon.views.conversation("c3") is None
        assert isinstance(talk.say("again", conversation_id="c1"), Refused), "the bound is over all conversations"
        repeated = talk.say(plan=held, conversation_id="c1", message_id="m1")
        assert isinstance(repeated, Accepted) and repeated.duplicate
        assert talk.daemon.views.status()["requests_unfinished"] == 2
        assert isinstance(talk.ask(Cancel(conversation_id="c2")), Accepted)
        talk.wait_for("reply.sent")
        assert isinstance(talk.say(plan=held, conversation_id="c3", message_id="m3"), Accepted)
        policy_agents.GATE.set()
        talk.wait_for("reply.sent", 3)
        assert talk.daemon.views.status()["requests_unfinished"] == 0


def test_the_next_daemon_counts_what_the_last_one_left(tmp_path):
    """Three requests of one conversation, one running and two queued: the next daemon has room for one more."""
    held = {"nodes": [{"id": "a", "agent": "gated"}]}
    with talking(state_storage="sqlite", data_dir=tmp_path, drain_timeout=0.0) as talk:
        for _ in range(3):
            assert isinstance(talk.say(plan=held), Accepted)
        talk.wait_for("node.started")
        talk.daemon.stop()
    with talking(state_storage="sqlite", data_dir=tmp_path, max_unfinished=4) as talk:
        talk.wait_for("node.started")
        assert talk.daemon.views.status()["requests_unfinished"] == 3
        assert isinstance(talk.say(plan=held, conversation_id="other"), Accepted)
        assert isinstance(talk.say(plan=held, conversation_id="another"), Refused)
        policy_agents.GATE.set()
        assert {e.status for e in talk.wait_for("reply.sent", 4)} == {"completed"}


def test_a_request_ends_when_its_time_is_over_with_what_it_has():
    """One branch is done, one hangs, one waits for it: the reply says so, and the hanging call is given up."""
    nodes = [
        {"id": "done", "agent": "quick", "inputs": {"text": "ready"}},
        {"id": "hangs", "agent": "gated"},
        {"id": "waits", "agent": "quick", "after": ["hangs"]},
    ]
    with talking(request_timeout=2.0) as talk:
        talk.say(plan={"nodes": nodes})
        reply = talk.wait_for("reply.sent")[0]
        assert reply.status == "partial"
        assert reply.data == {"done": {"text": "ready"}}
        assert {branch.node: branch.reason for branch in reply.missing} == {"hangs": "deadline", "waits": "deadline"}
        given_up = threading.Event()
        for _ in range(750):  # after its reply: nobody waits for it
            if talk.daemon.execution.stats()["agents"]["gated"]["running"] == 0:
                break
            given_up.wait(0.02)
        assert talk.daemon.execution.stats()["agents"]["gated"]["running"] == 0


def test_a_request_keeps_its_deadline_when_the_daemon_ends_meanwhile(tmp_path):
    """It counts from when its turn came, not from when the next daemon took it up."""
    held = {"nodes": [{"id": "a", "agent": "gated"}]}
    with talking(state_storage="sqlite", data_dir=tmp_path, request_timeout=3600, drain_timeout=0.0) as talk:
        talk.say(plan=held)
        begun = talk.wait_for("node.started")[0].at
        talk.daemon.stop()
    with talking(state_storage="sqlite", data_dir=tmp_path, request_timeout=0.5) as talk:
        reply = talk.wait_for("reply.sent")[0]
        assert [(branch.node, branch.reason) for branch in reply.missing] == [("a", "deadline")]
        assert reply.at >= begun + 500
