"""Stories of single conversations, told to the pure core."""

from __future__ import annotations

import pytest
from conversation_driver import DIAMOND, PERMANENT, TRANSIENT, Conversation, node, plan

from messages.agent import NodeResult, RetryDue
from messages.conversation import Accept, Quarantine
from messages.inbound import Cancel, Pause, Resume
from messages.lifecycle import Recovered
from workflow.decide import HANDLERS, decide
from workflow.errors import Illegal, NotTaken, Stale
from workflow.phases import TABLE
from workflow.state import LOST, NodeStatus, Phase, State
from workflow.step import Limits
from workflow.wanted import command, wanted


@pytest.fixture
def talk() -> Conversation:
    return Conversation()


def test_a_message_without_a_plan_is_planned_run_synthesized_and_answered(talk):
    """The main job, phase by phase."""
    talk.ask()
    assert talk.state.phase is Phase.PLANNING
    talk.draft(DIAMOND)
    assert talk.state.phase is Phase.EXECUTING_SINGLE
    talk.succeed("a", {"sku": "X"})
    assert talk.state.phase is Phase.EXECUTING_PARALLEL
    talk.succeed("b")
    talk.succeed("c")
    talk.succeed("d")
    assert talk.state.phase is Phase.SYNTHESIZING
    talk.synthesize("it is there")
    assert talk.state.phase is Phase.COMPLETED
    (reply,) = talk.of("reply.sent")
    assert (reply.status, reply.text, reply.missing) == ("completed", "it is there", ())
    assert reply.data == {"a": {"sku": "X"}, "b": "ok", "c": "ok", "d": "ok"}
    assert [e.seq for e in talk.events] == list(range(1, len(talk.events) + 1))


def test_a_node_starts_the_moment_its_own_inputs_are_there(talk):
    """No barrier between waves: the successor of a quick node does not wait for a slow sibling."""
    talk.ask(plan(node("slow"), node("quick"), node("after_quick", "quick")))
    assert talk.running() == {"slow", "quick"}
    talk.succeed("quick")
    assert talk.running() == {"slow", "after_quick"}


@pytest.mark.parametrize(("threshold", "phase"), [(1, "executing_parallel"), (2, "executing_single")])
def test_the_parallel_threshold_names_the_phase(threshold, phase):
    """One running node counts as parallel only when the threshold says so."""
    talk = Conversation(Limits(parallel_threshold=threshold))
    talk.ask(plan(node("a")))
    assert talk.state.phase == phase


def test_a_direct_answer_needs_no_nodes(talk):
    """A planner may answer by itself."""
    talk.ask()
    talk.draft(plan(answer="we open at nine"))
    assert talk.of("reply.sent")[0].text == "we open at nine"
    assert talk.state.phase is Phase.COMPLETED


def test_join_any_starts_with_the_first_and_quorum_with_enough(talk):
    """Joins decide how many dependencies must have succeeded."""
    talk.ask(plan(node("a"), node("b"), node("c"), node("one", "a", "b", need=1), node("two", "a", "b", "c", need=2)))
    talk.succeed("b")
    assert "one" in talk.running()
    assert "two" not in talk.running()
    talk.succeed("a")
    assert "two" in talk.running()


def test_a_join_that_can_no_longer_be_met_is_skipped_with_its_reason(talk):
    """A branch that needs more than can come is in `missing` with no attempts."""
    talk.ask(plan(node("a"), node("b"), node("both", "a", "b"), node("one", "a", "b", need=1)))
    talk.fail("a")
    talk.succeed("b")
    talk.succeed("one")
    talk.synthesize()
    (reply,) = talk.of("reply.sent")
    assert reply.status == "partial"
    assert [(m.node, m.attempts) for m in reply.missing] == [("a", 1), ("both", 0)]
    assert reply.missing[1].reason == "needs a, which failed"


def test_a_failure_with_a_retry_backs_off_and_tries_again(talk):
    """Attempts count every try; the delay is a timer that should exist."""
    talk.ask(plan(node("a")))
    talk.fail("a", TRANSIENT, retry_in=2.0)
    assert talk.state.request.nodes["a"].status is NodeStatus.BACKING_OFF
    (timer,) = wanted(talk.state, talk.now).timers
    assert (timer.delay, timer.due) == (2.0, talk.now + 2000)
    talk.tell(timer.message)
    assert talk.state.request.nodes["a"].attempts == 2
    talk.succeed("a")
    talk.synthesize()
    assert talk.of("reply.sent")[0].status == "completed"


def test_a_late_result_of_an_abandoned_attempt_is_stale(talk):
    """Fencing: attempt 1 cannot speak once attempt 2 runs."""
    talk.ask(plan(node("a")))
    talk.fail("a", TRANSIENT, retry_in=1.0)
    talk.retry("a")
    before = talk.state
    with pytest.raises(Stale, match="attempt 1 of node a is over"):
        talk.succeed("a", attempt=1)
    assert talk.state == before


def test_when_everything_failed_the_reply_says_so_without_a_synthesizer(talk):
    """A truthful failure names the branches, their reasons and their attempts."""
    talk.ask(plan(node("a"), node("b", "a")))
    talk.fail("a", PERMANENT)
    (reply,) = talk.of("reply.sent")
    assert reply.status == "failed"
    assert reply.data == {}
    assert "a (ValueError: no such thing; 1 attempt)" in reply.text
    assert "b (needs a, which failed; 0 attempts)" in reply.text
    assert talk.state.phase is Phase.FAILED


def test_on_failure_fail_ends_the_request_and_stops_the_rest(talk):
    """`fail` shows nothing that might mislead, and wants nothing running any more."""
    talk.ask(plan(node("a", on_failure="fail"), node("b")))
    talk.fail("a")
    assert talk.of("reply.sent")[0].status == "failed"
    assert wanted(talk.state, talk.now).children == ()


def test_on_failure_fallback_asks_the_other_agent_with_fresh_retries(talk):
    """The node keeps its id; attempts go on counting; only a failing fallback is final."""
    talk.ask(plan(node("a", agent="first", on_failure="fallback:second")))
    talk.fail("a")
    running = talk.state.request.nodes["a"]
    assert (running.agent, running.attempts, running.failures) == ("second", 2, 0)
    talk.fail("a")
    assert talk.of("reply.sent")[0].status == "failed"


def test_on_failure_replan_keeps_what_is_finished_and_is_bounded(talk):
    """The planner sees what failed; finished nodes are neither dropped nor run again."""
    talk.ask(plan(node("a"), node("b", "a", on_failure="replan")))
    talk.succeed("a", 1)
    talk.fail("b")
    assert talk.state.phase is Phase.PLANNING
    (child,) = wanted(talk.state, talk.now).children
    drafting = command(talk.state, child, "")
    assert drafting.finished == {"a": 1}
    assert drafting.failed == {"b": PERMANENT}
    talk.draft(plan(node("a"), node("b2", "a", on_failure="replan"), origin="planner"))
    assert talk.running() == {"b2"}
    talk.fail("b2")
    talk.draft(plan(node("b3", "a", on_failure="replan"), origin="planner"))
    talk.fail("b3")
    talk.synthesize()
    (reply,) = talk.of("reply.sent")
    assert reply.status == "partial"
    assert reply.data == {"a": 1}
    assert [m.node for m in reply.missing] == ["b3"]


def test_when_there_is_no_new_plan_what_is_finished_is_put_into_words_and_what_failed_is_named(talk):
    """It goes on as with `skip`: what runs is waited for, and the planner is not asked again."""
    talk.ask(plan(node("a"), node("b", on_failure="replan"), node("c"), node("d", "b")))
    talk.succeed("a", 1)
    talk.fail("b")
    talk.fail_planning()
    assert talk.running() == {"c"}
    assert not talk.of("reply.sent")
    talk.succeed("c", 3)
    talk.synthesize("in words")
    (reply,) = talk.of("reply.sent")
    assert (reply.status, reply.text, reply.data) == ("partial", "in words", {"a": 1, "c": 3})
    assert [(missing.node, missing.attempts) for missing in reply.missing] == [("b", 1), ("d", 0), ("planner", 1)]
    assert len(talk.of("plan.failed")) == 1


def test_when_there_is_no_new_plan_and_nothing_is_finished_the_request_has_failed(talk):
    talk.ask(plan(node("b", on_failure="replan")))
    talk.fail("b")
    talk.fail_planning()
    (reply,) = talk.of("reply.sent")
    assert (reply.status, reply.data) == ("failed", {})
    assert [missing.node for missing in reply.missing] == ["b", "planner"]


def test_a_planner_that_gives_up_fails_the_request_truthfully(talk):
    """Planner failures are journaled, retried as told, and named in the reply."""
    talk.ask()
    talk.fail_planning(retry_in=1.0)
    assert wanted(talk.state, talk.now).children == ()
    assert [c.attempt for c in wanted(talk.state, talk.now + 2000).children] == [2]
    talk.fail_planning()
    (reply,) = talk.of("reply.sent")
    assert reply.status == "failed"
    assert "planner (ConnectionError: refused; 2 attempts)" in reply.text


def test_a_synthesizer_that_gives_up_still_hands_over_the_results(talk):
    """Finished work is not thrown away because nobody found words for it."""
    talk.ask(plan(node("a")))
    talk.succeed("a", 7)
    talk.fail_synthesis()
    (reply,) = talk.of("reply.sent")
    assert (reply.status, reply.data) == ("partial", {"a": 7})
    assert [m.node for m in reply.missing] == ["synthesizer"]


# Busy policies


def test_enqueue_waits_its_turn(talk):
    """Requests of one conversation are answered in the order they came."""
    talk.ask(plan(node("a")))
    talk.ask(plan(node("b")))
    talk.succeed("a")
    talk.synthesize("one")
    assert talk.running() == {"b"}
    talk.succeed("b")
    talk.synthesize("two")
    assert [e.text for e in talk.of("reply.sent")] == ["one", "two"]


def test_reject_refuses_and_says_so(talk):
    """A refused message leaves an event and nothing else."""
    talk.ask(plan(node("a")))
    talk.ask(policy="reject")
    assert talk.of("message.refused")[0].code == "conversation_busy"
    assert talk.running() == {"a"}


@pytest.mark.parametrize(("policy", "forgotten"), [("interrupt", False), ("rollback", True)])
def test_interrupt_and_rollback_end_the_running_request_and_run_the_new_one_next(talk, policy, forgotten):
    """The ended request is answered with what is finished; the new one goes before those that wait."""
    first = talk.ask(plan(node("a"), node("b")))
    waiting = talk.ask(plan(node("w")))
    talk.succeed("a", 1)
    newest = talk.ask(plan(node("n")), policy)
    (reply,) = talk.of("reply.sent")
    assert (reply.request_id, reply.status, reply.data, reply.forgotten) == (first, "cancelled", {"a": 1}, forgotten)
    assert talk.request_id == newest
    talk.succeed("n")
    talk.synthesize()
    assert talk.request_id == waiting


# Control


def test_cancel_answers_with_what_is_finished_and_the_conversation_goes_on(talk):
    """Cancel ends the running request only."""
    talk.ask(plan(node("a"), node("b")))
    talk.succeed("a", 1)
    talk.tell(Cancel(conversation_id="c1", by="ann", reason="enough"))
    (reply,) = talk.of("reply.sent")
    assert (reply.status, reply.data) == ("cancelled", {"a": 1})
    assert [(m.node, m.reason) for m in reply.missing] == [("b", "cancelled by ann: enough")]
    assert talk.state.phase is Phase.CANCELLED
    talk.ask(plan(node("c")))
    assert talk.running() == {"c"}


def test_pause_keeps_what_runs_and_starts_nothing_until_resume(talk):
    """Results that come while paused are kept; what follows from them waits."""
    talk.ask(plan(node("a"), node("b", "a")))
    talk.tell(Pause(conversation_id="c1"))
    assert not wanted(talk.state, talk.now).may_start
    talk.succeed("a")
    assert talk.running() == set()
    talk.tell(Resume(conversation_id="c1"))
    assert talk.running() == {"b"}


def test_a_plan_that_needs_approval_waits_for_resume_or_cancel(talk):
    """An agent marked for approval holds its whole plan until a person agrees."""
    talk.ask(plan(node("a"), node("b", approval=True)))
    assert talk.state.phase is Phase.AWAITING_APPROVAL
    assert wanted(talk.state, talk.now).children == ()
    talk.tell(Resume(conversation_id="c1", by="ann"))
    assert talk.running() == {"a", "b"}


def test_a_quarantined_conversation_wants_nothing_until_resume(talk):
    """Quarantine stops the harm; resume releases."""
    talk.ask(plan(node("a")))
    talk.tell(Quarantine("killed the daemon 5 times"))
    assert wanted(talk.state, talk.now).children == ()
    talk.tell(Resume(conversation_id="c1"))
    assert talk.state.quarantined is None
    assert {c.node for c in wanted(talk.state, talk.now).children} == {"a"}


def test_cancelling_a_quarantined_conversation_leaves_it_usable(talk):
    """The way out of quarantine may also be to give the request up."""
    talk.ask(plan(node("a")))
    talk.tell(Quarantine("again and again"))
    talk.tell(Cancel(conversation_id="c1"))
    talk.ask(plan(node("b")))
    assert talk.running() == {"b"}


# Recovery


def test_recovery_runs_cut_off_nodes_again_and_uses_up_no_retry(talk):
    """The daemon's own end is not the agent's failure."""
    talk.ask(plan(node("a"), node("b")))
    talk.succeed("b")
    talk.tell(Recovered())
    running = talk.state.request.nodes["a"]
    assert (running.attempts, running.failures) == (2, 0)
    assert talk.state.request.nodes["b"].attempts == 1


def test_recovery_fails_nodes_whose_calls_must_not_be_repeated(talk):
    """`on_unknown_outcome: fail` prefers a truthful gap to a second effect."""
    talk.ask(plan(node("a", on_unknown_outcome="fail"), node("b")))
    talk.tell(Recovered())
    talk.succeed("b")
    talk.synthesize()
    (missing,) = talk.of("reply.sent")[0].missing
    assert missing.reason.startswith("unknown_outcome")


def test_recovery_runs_nodes_again_whose_results_were_not_kept(talk):
    """With results kept in memory only, a finished node's work is lost with the daemon, and done again."""
    talk.ask(plan(node("a"), node("b", "a")))
    talk.succeed("a", LOST)
    talk.tell(Recovered())
    assert talk.running() == {"a", "b"}


def test_recovery_while_paused_starts_nothing_and_resume_takes_it_up(talk):
    """A paused conversation stays paused over a restart."""
    talk.ask(plan(node("a")))
    talk.tell(Pause(conversation_id="c1"))
    talk.tell(Recovered())
    assert talk.running() == set()
    talk.tell(Resume(conversation_id="c1"))
    (timer,) = wanted(talk.state, talk.now).timers
    assert timer.due <= talk.now
    talk.tell(timer.message)
    assert talk.state.request.nodes["a"].attempts == 2


# The table


def test_every_handler_of_the_table_exists_and_is_used():
    """Names in the table and functions in decide.py are the same set."""
    named = {rule.handler for rules in TABLE.values() for rule in rules.values()}
    assert named == set(HANDLERS)


@pytest.mark.parametrize("phase", list(Phase))
def test_a_message_without_an_entry_is_illegal_and_changes_nothing(phase):
    """Whatever the phase: no entry, no effect."""
    state = State(conversation_id="c1", phase=phase)
    illegal = [m for m in EXAMPLES if type(m) not in TABLE[phase]]
    for message in illegal:
        with pytest.raises(Illegal, match="means nothing while"):
            decide(state, message, 0)
    assert state == State(conversation_id="c1", phase=phase)


EXAMPLES = [
    Accept("m", "r", "t", None, None, "enqueue"),
    Cancel(conversation_id="c1"),
    Pause(conversation_id="c1"),
    Resume(conversation_id="c1"),
    Recovered(),
    Quarantine("x"),
    NodeResult("r", "n", 1, None, b"null", 0.0),
    RetryDue("r", "n", 1),
]


def test_resume_without_pause_is_refused(talk):
    """There is nothing to resume."""
    with pytest.raises(NotTaken):
        talk.tell(Resume(conversation_id="c1"))


def test_every_event_names_a_cause_that_came_before_it(talk):
    """The chain of causes has no loose ends."""
    talk.ask(DIAMOND)
    talk.fail("a", TRANSIENT, retry_in=0.5)
    talk.retry("a")
    for name in "abcd":
        talk.succeed(name)
    talk.synthesize()
    for event in talk.events:
        assert event.cause == "m1" if event.seq == 1 else 0 < event.cause < event.seq
    by_seq = {e.seq: e for e in talk.events}
    started = [e for e in talk.events if e.type == "node.started"]
    assert by_seq[started[1].cause].type == "node.retrying"
    assert {by_seq[e.cause].type for e in started[2:]} == {"node.succeeded"}


def test_every_event_of_a_request_carries_its_id(talk):
    """Also the last move of one request, although the next one is already there."""
    first, second = talk.ask(plan(node("a"))), talk.ask(plan(node("b")))
    talk.succeed("a")
    talk.synthesize()
    reply = talk.of("reply.sent")[0]
    after = [e for e in talk.events if e.seq > reply.seq]
    assert (after[0].type, after[0].to_phase, after[0].request_id) == ("phase.changed", "completed", first)
    assert {e.request_id for e in after[1:]} == {second}


def test_a_branch_that_fails_while_a_new_plan_is_thought_up_does_not_end_the_thinking():
    """It is routed where it stands; moving on to executing would forget the new plan, or begin it once more."""
    talk = Conversation(Limits(max_replans=1))
    talk.ask(plan(node("a", on_failure="replan"), node("b", on_failure="fallback:other"), node("c")))
    talk.fail("a")
    assert talk.state.phase is Phase.PLANNING
    talk.fail("b")
    assert (talk.state.phase, talk.of("node.started")[-1].agent) == (Phase.PLANNING, "other")
    talk.fail("c")
    assert talk.state.phase is Phase.PLANNING
    assert talk.state.request is not None
    assert talk.state.request.replans == 1
    talk.draft(plan(node("d")))
    assert talk.running() == {"b", "d"}


def test_a_branch_that_must_not_fail_ends_the_request_also_while_a_new_plan_is_thought_up():
    """The new plan could not make up for it."""
    talk = Conversation()
    talk.ask(plan(node("a", on_failure="replan"), node("b", on_failure="fail")))
    talk.fail("a")
    talk.fail("b")
    assert talk.of("reply.sent")[0].status == "failed"


def test_what_a_new_plan_kept_goes_on_while_the_plan_waits_for_approval():
    """Its result had been thrown away and it was run again; a retry that came due was forgotten."""
    talk = Conversation()
    talk.ask(plan(node("a", on_failure="replan"), node("b"), node("c")))
    talk.fail("c", TRANSIENT, retry_in=1.0)
    talk.fail("a")
    talk.draft(plan(node("d", approval=True)))
    assert talk.state.phase is Phase.AWAITING_APPROVAL
    talk.succeed("b")
    talk.retry("c")
    talk.fail("c")
    assert talk.state.phase is Phase.AWAITING_APPROVAL
    talk.tell(Resume(conversation_id="c1"))
    assert talk.running() == {"d"}
    talk.succeed("d")
    talk.synthesize()
    assert [missing.node for missing in talk.of("reply.sent")[0].missing] == ["c"]


def test_a_failure_while_a_plan_waits_for_approval_is_routed_after_it():
    """The fallback is asked before what depends on the branch is given up."""
    talk = Conversation()
    talk.ask(plan(node("a", on_failure="replan"), node("b", on_failure="fallback:other")))
    talk.fail("a")
    talk.draft(plan(node("d", "b", approval=True)))
    talk.fail("b")
    talk.tell(Resume(conversation_id="c1"))
    assert talk.of("node.started")[-1].agent == "other"
    assert not talk.of("node.skipped")
