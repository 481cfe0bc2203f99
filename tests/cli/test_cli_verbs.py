"""The command line as a client: what its verbs do, and their exit codes."""

from __future__ import annotations

import json

import pytest
from gateway_support import FakeSettings
from typer.testing import CliRunner

from cli import Commands, build_app
from cli import exit_codes as code
from gateway.problems import CODES
from messages.inbound import Refused
from persistence.contract import StoreUnavailable

# Messages


def test_send_prints_the_acceptance_or_the_reply(orch, router):
    result = orch("send", "c1", "hello")
    assert (result.exit_code, result.stdout) == (0, "accepted: message m1, request r1\n")
    accepted = json.loads(orch("send", "c1", "hello", "--json", "--message-id", "mine", "--user", "u").stdout)
    assert (accepted["message_id"], accepted["status"]) == ("mine", "accepted")
    router.echo = True
    result = orch("send", "c1", "hello", "--wait", "5s")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "echo hello\n", "")
    assert (
        json.loads(orch("send", "c1", "-", "--wait", "5", "--json", stdin="from stdin").stdout)["text"]
        == "echo from stdin"
    )


def test_a_wait_in_vain_is_124(orch):
    result = orch("send", "c1", "hello", "--wait", "50ms")
    assert result.exit_code == 124 and "no reply within 0.05" in result.stderr


def test_a_wait_that_a_stopping_daemon_ends_is_not_called_as_long_as_it_was_to_be(orch, monkeypatch):
    accepted = {"message_id": "m", "request_id": "r", "status": "accepted"}
    monkeypatch.setattr("gateway.client.DaemonClient.send", lambda *_, **__: accepted)
    result = orch("send", "c1", "hello", "--wait", "30")
    assert result.exit_code == 124
    assert result.stderr == "the daemon ended the wait before there was a reply; it goes on: orch show c1\n"


def test_send_takes_a_plan_from_a_file(orch, router, tmp_path):
    (tmp_path / "plan.json").write_text('{"answer": "ready"}')
    assert orch("send", "c1", "x", "--plan", "plan.json").exit_code == 0
    assert router.submitted[0].plan.answer == "ready"


@pytest.mark.parametrize(
    "text", ["{", "null", "[]", '{"answer": NaN}', '{"answer": 1e999}', '{"answer": "\\ud800"}', "[" * 100_000]
)
def test_a_file_that_is_no_plan_is_a_usage_error_and_nothing_is_sent(orch, router, tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    result = orch("send", "c1", "x", "--plan", "plan.json")
    assert result.exit_code == 2
    assert "plan.json" in result.stderr
    assert router.submitted == []


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        ("conversation_busy", 4),
        ("wrong_state", 4),
        ("message_id_conflict", 4),
        ("mailbox_full", 75),
        ("draining", 75),
        ("store_unavailable", 75),
        ("invalid_plan", 2),
    ],
)
def test_refusals_have_their_exit_codes(orch, router, refusal, expected):
    router.refuse = Refused(code=refusal, detail="because", problems=({"where": "nodes.a", "problem": "wrong"},))
    result = orch("send", "c1", "x")
    assert (result.exit_code, result.stdout) == (expected, "")
    assert "because" in result.stderr and refusal in result.stderr
    assert result.stderr.endswith("- nodes.a: wrong\n")


def test_every_code_of_the_daemon_has_a_known_exit_code():
    assert set(code.OF_PROBLEM) <= set(CODES)
    assert set(code.OF_PROBLEM.values()) <= set(code.MEANINGS)
    assert set(code.MEANINGS) == {0, 1, 2, 3, 4, 69, 75, 77, 78, 124, 130}


def test_no_daemon_is_69_at_once_for_every_verb(orch, dead_url):
    verbs = (
        ("status",),
        ("actors",),
        ("conversations",),
        ("show", "c1"),
        ("events", "c1"),
        ("events", "c1", "--follow"),
        ("why", "c1"),
        ("why", "c1", "--all"),
        ("cancel", "c1"),
        ("restart", "/x"),
        ("deadletters",),
        ("send", "c1", "x"),
        ("chat", "c1"),
    )
    for verb in verbs:
        result = orch(*verb, "--url", dead_url)
        assert (result.exit_code, result.stdout) == (69, ""), verb
        assert dead_url in result.stderr


def test_a_wrong_token_is_77(orch, server, monkeypatch):
    from pydantic import SecretStr

    server.configure(FakeSettings(api_token=SecretStr("right")))
    try:
        assert orch("status").exit_code == 77
        monkeypatch.setenv("ORCHESTRATOR_API_TOKEN", "right")
        assert orch("status").exit_code == 0
    finally:
        server.configure(FakeSettings())


@pytest.mark.parametrize("name", ["ORCHESTRATOR_API_TOKEN", "ORCHESTRATOR_READ_TOKEN"])
def test_a_token_that_only_looks_looks_and_is_77_for_changes(orch, server, monkeypatch, name):
    """Whoever has no other may call it either: a client's settings need not be enough for a daemon."""
    from pydantic import SecretStr

    server.configure(FakeSettings(api_token=SecretStr("right"), read_token=SecretStr("looks")))
    try:
        monkeypatch.setenv(name, "looks")
        assert orch("status").exit_code == 0
        refused = orch("cancel", "c1")
        assert refused.exit_code == 77
        assert "operate" in refused.stderr
    finally:
        server.configure(FakeSettings())


def test_dead_letters_are_sent_again_or_thrown_away(orch, router):
    said = json.dumps({"type": "user_message", "conversation_id": "c1", "text": "hello"})
    router.letters = [
        {"id": n, "at": "t", "address": "/x", "kind": "k", "reason": "late", "body": said} for n in (1, 2)
    ]
    again = orch("deadletters", "--replay", "1", "--reason", "fixed")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "c1" in again.stderr
    assert json.loads(orch("deadletters", "--drop", "2", "--json").stdout) == {"id": 2, "status": "dropped"}
    assert router.letters == []
    assert orch("deadletters", "--drop", "2").exit_code == 3
    assert orch("deadletters", "--drop", "2", "--replay", "1").exit_code == 2


def test_a_dead_letter_that_was_sent_again_and_is_still_there_is_told(orch, router):
    """Whoever sent it must drop it, or it may be sent once more."""
    said = json.dumps({"type": "user_message", "conversation_id": "c1", "text": "hello"})
    router.letters = [{"id": 1, "at": "t", "address": "/x", "kind": "k", "reason": "late", "body": said}]

    def gone(_number):
        raise StoreUnavailable("gone fishing")

    router.drop_dead_letter = gone
    again = orch("deadletters", "--replay", "1")
    assert again.exit_code == 0
    assert "sent again: c1" in again.stderr
    assert "gone fishing" in again.stderr


def test_ctrl_c_is_130(orch, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.client.DaemonClient.status", interrupted)
    assert orch("status").exit_code == 130


def test_control_verbs(orch, router):
    router.tick("c1")
    for verb in ("cancel", "pause", "resume"):
        result = orch(verb, "c1", "--reason", "because")
        assert (result.exit_code, result.stdout) == (0, "") and "c1" in result.stderr
        assert (router.submitted[-1].type, router.submitted[-1].reason) == (verb, "because")
        assert json.loads(orch(verb, "c1", "--json").stdout)["status"] == "accepted"
    assert orch("cancel", "nobody").exit_code == 3
    assert orch("restart", "/conversations/c1").exit_code == 0
    assert orch("restart", "/nobody").exit_code == 3


# Chat


def test_chat_prints_replies_to_stdout_and_what_happens_to_stderr(orch, router):
    router.tick("c1")
    router.echo = True
    result = orch("chat", "c1", stdin="hello\n\nagain\n")
    assert (result.exit_code, result.stdout) == (0, "echo hello\necho again\n")
    assert "conversation c1" in result.stderr


def test_chat_makes_a_new_conversation_and_goes_on_after_a_refusal(orch, router):
    router.echo = True
    result = orch("chat", stdin="a\x00b\nfine\n")
    assert result.stdout == "echo fine\n" and "NUL" in result.stderr
    assert next(iter(router.journal)).startswith("chat-")


def test_chat_starts_a_daemon_here_when_none_runs(commands, monkeypatch, tmp_path, server, router, dead_url):
    """Only when no other was asked for by name."""
    router.echo = True
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCHESTRATOR_URL", raising=False)
    stopped = []

    def local_chat(settings, talk):
        result = talk(server.url)
        stopped.append(settings)
        return result

    app = build_app(Commands(**{**{f: getattr(commands, f) for f in commands.__slots__}, "local_chat": local_chat}))
    bind = dead_url.removeprefix("http://")
    result = CliRunner().invoke(app, ["chat", "--http-bind", bind], input="hi\n", catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, "echo hi\n")
    assert len(stopped) == 1 and f"no daemon answers at {dead_url}: starting one" in result.stderr
