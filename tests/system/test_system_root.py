"""The root of the actor tree in a daemon: what happens when the parent of all conversations fails."""

from __future__ import annotations

import threading
from dataclasses import replace
from queue import SimpleQueue

import policy_agents
import pytest
from test_system_policies import DEADLINE, Talk, one, talking

import serving
from actors.address import Address
from actors.base import Actor
from actors.child_plan import GaveUp
from actors.mailbox import Mailbox
from conversations import PATH, ResumeSome
from messages.inbound import Cancel, Refused
from messages.lifecycle import Crash
from telemetry.systemd import ServiceManager

BROKEN = ResumeSome("many")  # type: ignore[arg-type]  # what it is for: nobody can take it apart


@pytest.fixture
def talk():
    with talking() as each:
        wait_until(lambda: each.daemon.system.find(PATH) is not None)  # the doors are open a moment earlier
        yield each


def wait_until(condition):
    pause = threading.Event()
    for _ in range(int(DEADLINE / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("waited in vain")


def next_life(talk: Talk, before):
    wait_until(lambda: (now := talk.daemon.system.find(PATH)) is not None and now is not before)


def break_conversations(talk: Talk, message=BROKEN):
    before = talk.daemon.system.find(PATH)
    assert before is not None
    before.tell(message)
    next_life(talk, before)


def test_whom_a_trial_releases_between_two_lives_of_the_parent_is_woken_by_the_next_however_many(talk):
    """What is told to it meanwhile is kept up to a limit only."""
    router, system = talk.daemon.router, talk.daemon.system
    between_two_lives = Address(system, PATH, Mailbox(1))
    lives, router._conversations = router._conversations, between_two_lives
    router.wake([f"held-{number}" for number in range(250)])
    router._conversations = lives
    break_conversations(talk, Crash("a test"))
    wait_until(lambda: router.live() >= 250)


def test_work_that_runs_when_the_parent_of_all_fails_goes_on_and_ends(talk):
    """The conversation wakes by itself and takes up what the journal says."""
    talk.say("x", {"nodes": [{"id": "n", "agent": "gated"}]}, message_id="m")
    talk.wait_for("node.started")
    break_conversations(talk)
    policy_agents.GATE.set()
    assert talk.wait_for("reply.sent")[0].status == "completed"
    assert talk.say("x", {"nodes": [{"id": "n", "agent": "gated"}]}, message_id="m").duplicate


def test_a_conversation_that_had_nothing_to_do_sleeps_until_somebody_speaks(talk):
    """It is in the store; its row in the tree is gone until then."""
    talk.say("x", one("quick"))
    talk.wait_for("reply.sent")
    wait_until(lambda: talk.daemon.router.working() == 0)
    break_conversations(talk)
    wait_until(lambda: talk.daemon.router.live() == 0)
    talk.say("y", one("quick"))
    assert len(talk.wait_for("reply.sent", 2)) == 2


def test_every_message_that_comes_meanwhile_is_answered(talk):
    """Accepted and done, or refused with a reason: nobody waits in vain."""

    def say(number):
        return talk.say("x", one("quick"), f"c{number % 7}", message_id=f"m{number}", busy_policy="enqueue")

    answers = []
    for number in range(30):
        if number % 10 == 5:
            break_conversations(talk, Crash("a test"))
        answers.append(say(number))
    refused = {n for n, answer in enumerate(answers) if isinstance(answer, Refused)}
    assert {answers[number].code for number in refused} <= {"store_unavailable"}
    wait_until(lambda: talk.daemon.router.working() == 0)
    for number in set(range(30)) - refused:
        assert say(number).reply_seq is not None


def test_a_person_may_restart_the_parent_of_all_as_often_as_they_like_but_not_the_root(talk):
    """Which says nothing against it."""
    for _ in range(8):
        before = talk.daemon.system.find(PATH)
        assert talk.daemon.views.restart(PATH)
        next_life(talk, before)
    assert talk.daemon.failed is None
    assert not talk.daemon.views.restart("/")
    talk.say("x", one("quick"))
    talk.wait_for("reply.sent")


def test_a_root_that_gives_up_ends_the_daemon_with_exit_code_1_and_says_why(talk, capsys):
    """Six failures within a minute: a new process is the better restart."""
    logged = []
    log = talk.daemon.telemetry.log
    talk.daemon.telemetry.log = lambda event, **fields: (logged.append((event, fields)), log(event, **fields))
    for _ in range(5):
        break_conversations(talk)
    talk.daemon.system.find(PATH).tell(BROKEN)
    wait_until(lambda: talk.daemon.failed is not None)
    assert talk.say("x", one("quick")).code == "draining"
    code = serving._until_told(
        talk.daemon, talk.daemon.telemetry, lambda: talk.daemon.settings, SimpleQueue(), ServiceManager({})
    )
    assert code == 1
    said = capsys.readouterr().err
    assert "the daemon cannot go on: GaveUp: conversations: more than 5 restarts within 60 s; causes:" in said
    ((_, fields),) = [entry for entry in logged if entry[0] == "daemon_failed"]
    assert fields["error_type"] == GaveUp.__name__
    wait_until(lambda: talk.daemon.system.find("/") is None)
    assert talk.daemon.system.find(PATH) is None


class Unwilling(Actor):
    """An agent actor that does not end when it is asked to."""

    def __init__(self, *_parts):
        super().__init__()

    def on_receive(self, message):
        self.command = message

    def may_end(self):
        return False


def test_a_child_of_a_conversation_that_does_not_stop_in_time_is_taken_out_of_the_tree(talk, monkeypatch):
    """Its conversation goes on at once."""
    parts = talk.daemon.router._table.parts
    monkeypatch.setitem(parts.children, "agent", (Unwilling, ()))
    policy = parts.policy

    def hasty(role, agent):
        restart = policy(role, agent)
        return replace(restart, spec=replace(restart.spec, shutdown_timeout=0.05))

    object.__setattr__(parts, "policy", hasty)
    object.__setattr__(parts, "quick", None)  # every attempt has its actor from the start
    talk.say("x", one("quick"))
    talk.wait_for("node.started")
    path = "/conversations/c/agents/n"
    wait_until(lambda: talk.daemon.system.find(path) is not None)
    talk.ask(Cancel(conversation_id="c"))
    wait_until(lambda: talk.daemon.system.find(path) is None)
    wait_until(lambda: not talk.daemon.system.abandoned)
    talk.wait_for("phase.changed", to_phase="cancelled")
