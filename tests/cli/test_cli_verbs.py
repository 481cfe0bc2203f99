"""The command line as a client: what it prints where, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))  # the fake daemon is the same as the gateway's
from gateway_support import FakeRouter, FakeSettings, row

from cli import Commands, build_app
from cli import exit_codes as code
from cli.rendering import conversation_view, event_line, status_view
from cli.terminal import one_line, safe
from config import ConfigError, Settings
from gateway.problems import CODES
from gateway.server import HttpServer
from messages.events import MessageAccepted, NodeFailed, NodeRetrying, NodeStarted, PhaseChanged, PlanDrafted
from messages.failure import Failure
from messages.inbound import Refused
from messages.plan import NodeSpec
from persistence.contract import StoreUnavailable

ROOT = Path(__file__).parents[2]


class Called(list):
    """What the composition root was asked to do."""

    def note(self, name, result=0):
        def command(*args, **options):
            self.append((name, args, options))
            return result

        return command


@pytest.fixture
def called():
    return Called()


@pytest.fixture
def commands(called):
    return Commands(
        serve=called.note("serve"),
        demo=called.note("demo"),
        check=called.note("check", 1),
        migrate=called.note("migrate", 75),
        local_chat=called.note("local_chat"),
        chaos=called.note("chaos"),
        version="1.2.3",
    )


@pytest.fixture(scope="module")
def server():
    server = HttpServer(FakeRouter(), FakeSettings(), metrics=bytes, version="1", phases=("completed", "failed"))
    server.start()
    yield server
    server.stop(2.0)


@pytest.fixture
def router(server):
    server.app.state.door.router = router = FakeRouter()
    return router


@pytest.fixture
def orch(commands, server, router, monkeypatch, tmp_path):
    """Run one verb against the fake daemon; return the result."""
    for name in [n for n in os.environ if n.startswith("ORCHESTRATOR_") or n in ("REDIS_URL", "DATABASE_URL")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_URL", server.url)

    def run(*arguments, stdin=None):
        return CliRunner().invoke(build_app(commands), list(arguments), input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def dead_url():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


# The daemon's own verbs


def test_no_verb_serves_with_the_flags_before_it(orch, called):
    assert orch("--threads", "7").exit_code == 0
    [(name, (settings, reload), _)] = called
    assert (name, settings.threads, reload().threads) == ("serve", 7, 7)


def test_flags_may_stand_before_and_after_the_verb_and_the_nearer_wins(orch, called):
    assert orch("--threads", "7", "--log-level", "debug", "serve", "--threads", "8").exit_code == 0
    settings = called[0][1][0]
    assert (settings.threads, settings.log_level) == (8, "DEBUG")


@pytest.mark.parametrize(
    "line",
    [
        ["serve", "--accept-restored"],
        ["serve", "--accept-restored", "--threads", "3"],
        ["--accept-restored"],
        ["--accept-restored", "serve"],
        ["serve", "--accept-restored", "true"],
        ["serve", "--accept-restored=yes"],
    ],
)
def test_a_flag_that_is_true_or_false_may_stand_alone(orch, called, line):
    """An operator types it as the message about a restored store says it."""
    result = orch(*line)
    assert result.exit_code == 0, result.stderr
    assert called[0][1][0].accept_restored is True


def test_a_flag_that_is_true_or_false_takes_a_value_still(orch, called):
    assert orch("serve", "--trace-all", "false", "--accept-restored", "off").exit_code == 0
    assert (called[0][1][0].trace_all, called[0][1][0].accept_restored) == (False, False)
    refused = orch("serve", "--accept-restored", "flase")
    assert refused.exit_code == 78 and "expected true or false" in refused.stderr


def test_a_message_that_reads_like_a_flag_is_left_alone(orch, router):
    sent = orch("send", "c1", "--", "--accept-restored")
    assert sent.exit_code == 0, sent.stderr
    assert router.submitted[-1].text == "--accept-restored"


def test_reload_reads_the_configuration_again(orch, called, tmp_path):
    (tmp_path / "orchestrator.toml").write_text("threads = 3\n")
    orch("serve")
    settings, reload = called[0][1]
    (tmp_path / "orchestrator.toml").write_text("threads = 4\n")
    assert (settings.threads, reload().threads) == (3, 4)
    (tmp_path / "orchestrator.toml").write_text("threads = -4\n")
    with pytest.raises(ConfigError):
        reload()


def test_the_given_commands_decide_the_exit_code(orch, called):
    assert orch("check", "--json").exit_code == 1
    assert orch("migrate").exit_code == 75
    assert orch("migrate", "--status", "--json").exit_code == 75
    assert orch("demo", "--keep", "--http-bind", "127.0.0.1:0").exit_code == 0
    assert [(name, options) for name, _, options in called] == [
        ("check", {"as_json": True, "store": False}),
        ("migrate", {"as_json": False, "status": False}),
        ("migrate", {"as_json": True, "status": True}),
        ("demo", {"keep": True}),
    ]
    assert called[3][1] == ({"http_bind": "127.0.0.1:0"},)


def test_bad_configuration_is_78_and_says_everything_on_stderr(orch, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_THREADS", "many")
    for verb in ("serve", "check", "config", "status", "chat"):
        result = orch(verb, "--config", "nowhere.toml") if verb == "check" else orch(verb)
        assert (result.exit_code, result.stdout) == (78, ""), verb
        assert "ORCHESTRATOR_THREADS" in result.stderr


def test_config_shows_values_units_and_origins_and_no_secrets(orch, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_API_TOKEN", "very-secret-token")
    rows = {r["name"]: r for r in map(json.loads, orch("config", "--json", "--threads", "9").stdout.splitlines())}
    assert (rows["threads"]["value"], rows["threads"]["origin"]) == (9, "flag")
    assert rows["drain_timeout"]["unit"] == "s"
    plain = orch("config")
    assert "max_agent_calls" in plain.stdout and "environment ORCHESTRATOR_API_TOKEN" in plain.stdout
    assert "very-secret" not in plain.output and "very-secret" not in str(rows)


def test_every_setting_but_secrets_is_a_flag(commands):
    shown = {flag for param in get_command(build_app(commands)).commands["serve"].params for flag in param.opts}
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        secret = "SecretStr" in str(field.annotation)
        assert (flag in shown) is not (secret or name == "agents"), name


def test_usage_errors_are_2_and_suggest_what_was_meant(orch):
    result = orch("stauts")
    assert result.exit_code == 2 and "status" in result.stderr and result.stdout == ""
    for arguments in (
        ("send", "c1"),
        ("show",),
        ("events", "c1", "--limit", "0"),
        ("why", "c1", "--all", "--request", "r1"),
        ("conversations", "--where", "a=b"),
        ("send", "c1", "x", "--wait", "soon"),
    ):
        assert orch(*arguments).exit_code == 2, arguments
    assert orch("--version").stdout == "orch 1.2.3\n"


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


# Looking


def test_lists_are_one_object_per_line(orch, router):
    router.rows = [row("c1", 1), row("c2", 2, "failed")]
    router.letters = [{"id": 1, "at": "t", "address": "/x", "kind": "k", "reason": "late"}]
    assert [json.loads(line)["conversation_id"] for line in orch("conversations", "--json").stdout.splitlines()] == [
        "c2",
        "c1",
    ]
    failed = orch("conversations", "--where", "phase=failed", "--limit", "5")
    assert "c2" in failed.stdout and "c1" not in failed.stdout
    assert json.loads(orch("deadletters", "--json").stdout)["reason"] == "late"
    assert "late" in orch("deadletters").stdout
    assert orch("conversations", "--where", "phase=' OR 1=1").exit_code == 2
    assert json.loads(orch("status", "--json").stdout)["phases"] == {"completed": 2}
    router.status = lambda: {"readiness": {"store": {"ok": True}, "journal": {"ok": False, "detail": "full"}}, "n": 1.5}
    assert orch("status").stdout.split() == ["n", "1.5", "readiness", "store=ok", "journal=FAILED", "(full)"]


def test_actors_are_shown_as_a_tree_without_control_codes(orch, router):
    cause = "ValueError: \x1b]0;gotcha\x07\x1b[31mred"
    idle = dict.fromkeys(("oldest_age", "current", "current_age", "last_cause")) | {"mailbox": 0, "restarts": 0}
    router.actor_rows = [
        {**idle, "path": "/conversations", "kind": "router", "state": "idle"},
        {
            **idle,
            "path": "/conversations/c1",
            "kind": "supervisor",
            "state": "running",
            "last_cause": cause,
            "restarts": 2,
        },
    ]
    result = orch("actors")
    assert "\n  /conversations/c1" in result.stdout and "supervisor" in result.stdout
    assert "\x1b" not in result.output and "\x07" not in result.output
    assert [json.loads(line)["path"] for line in orch("actors", "--json").stdout.splitlines()] == [
        "/conversations",
        "/conversations/c1",
    ]
    assert "\x1b" not in orch("actors", "--json").stdout


def node(name, status="pending", depends_on=(), **fields):
    base = {"id": name, "agent": f"{name}_agent", "depends_on": list(depends_on), "status": status, "attempts": 0}
    return {**base, "duration_ms": None, "error": None, "reason": None, "retry_at": None, **fields}


def test_show_draws_the_plan_with_states_attempts_reply_and_what_is_pending(orch, router):
    nodes = [
        node("find", "succeeded", attempts=2, duration_ms=12.3),
        node("stock", "running", ["find"], attempts=1),
        node("price", "backing_off", ["find"], attempts=1, reason="TimeoutError: slow", retry_at="soon"),
        node("join", "pending", ["stock", "price"]),
    ]
    reply = {
        "seq": 9,
        "status": "partial",
        "text": "in stock",
        "missing": [{"node": "price", "reason": "gone", "attempts": 4}],
    }
    request = {"text": "is it there?", "origin": "planner", "nodes": nodes, "reply": reply}
    router.conversation = lambda _: {
        "conversation_id": "c1",
        "phase": "executing_parallel",
        "seq": 9,
        "request": request,
    }
    shown = orch("show", "c1").stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "c1 executing_parallel seq 9" in lines and "message is it there?" in lines
    assert any("find succeeded find_agent 2 attempts 12 ms" in line for line in lines)
    assert any("join pending join_agent 0 attempts (also after stock)" in line for line in lines)
    assert any(line.startswith("pending stock runs; price is tried again at soon; join waits for") for line in lines)
    assert "in stock" in lines and any("missing price: gone (4 attempts)" in line for line in lines)
    assert shown.index("find") < shown.index("price ") < shown.index("join")
    assert json.loads(orch("show", "c1", "--json").stdout)["request"]["nodes"][0]["id"] == "find"
    router.conversation = lambda _: None
    assert orch("show", "c1").exit_code == 3


def test_show_says_how_to_go_on_where_only_a_person_does(orch, router):
    """Without the words of `resume` on the screen nobody finds out what a plan that awaits approval waits for."""
    request = {"text": "paint it", "origin": "planner", "nodes": [node("paint", "pending")], "reply": None}
    for phase, words in (("awaiting_approval", "agrees to it"), ("paused", "goes on"), ("executing_single", None)):
        answer = {"conversation_id": "c1", "phase": phase, "seq": 4, "request": request}
        router.conversation = lambda _, answer=answer: answer
        shown = " ".join(orch("show", "c1").stdout.split())
        assert ("orch resume c1" in shown and "orch cancel c1" in shown) is (words is not None), phase
        assert words is None or words in shown


def test_show_does_not_say_that_anything_of_a_quarantined_conversation_runs(orch, router):
    request = {"text": "go", "origin": "client", "nodes": [node("deadly", "running", attempts=6)], "reply": None}
    answer = {"conversation_id": "c1", "phase": "paused", "seq": 4, "quarantined": "it kills", "request": request}
    router.conversation = lambda _: answer
    shown = orch("show", "c1").stdout
    assert "it kills" in shown and "orch resume c1" in shown and "deadly runs" not in shown


def test_why_draws_the_tree_of_causes_with_times_delays_and_rules(orch, router):
    error = Failure(type="ConnectionError", error_class="transient", message="went \x1b[31maway")
    spec = NodeSpec(id="stock", agent="stock_agent", timeout=1.0, retries=3)
    late = NodeSpec(id="price", agent="price_agent", timeout=1.0, retries=3, depends_on=("stock",), need=1)
    told = {"request_id": "r1", "node": "stock", "agent": "stock_agent"}
    router.emit("c1", MessageAccepted, request_id="r1", message_id="m1", text="is it \x1b[2J there?")
    router.emit("c1", PlanDrafted, request_id="r1", cause=1, nodes=(spec, late))
    router.emit("c1", PhaseChanged, request_id="r1", cause=2, from_phase="planning", to_phase="executing_single")
    router.emit("c1", NodeStarted, cause=2, attempt=1, **told)
    router.emit("c1", NodeFailed, cause=4, attempt=1, error=error, **told)
    router.emit("c1", NodeRetrying, cause=5, attempt=2, delay=0.5, due=1, reason="backoff min(5, 0.5)", **told)
    shown = orch("why", "c1").stdout
    lines = [re.sub(r"\+[0-9.]+ s", "+T", " ".join(line.split())) for line in shown.splitlines()]
    assert "\x1b" not in shown
    assert lines[0].startswith('message "is it')
    assert [line.lstrip("│├└─ ").partition(" took")[0] for line in lines[1:]] == [
        "+T plan by the planner: 2 nodes",
        "node stock backing_off stock_agent",
        "+T attempt 1 failed",
        "+T failed: ConnectionError (transient): went \N{REPLACEMENT CHARACTER}[31maway",
        "+T restart after 0.5 s: backoff min(5, 0.5)",
        "node price pending price_agent needs stock",
    ]
    assert json.loads(orch("why", "c1", "--json").stdout)["roots"][0]["children"][0]["kind"] == "plan"
    assert orch("why", "c1", "--all").stdout == shown
    assert orch("why", "c1", "--request", "r1").stdout == shown
    assert orch("why", "c1", "--request", "r2").exit_code == 3


def test_a_plan_that_has_no_order_is_shown_all_the_same():
    from rich.console import Console

    request = {"nodes": [node("a", depends_on=["b"]), node("b", depends_on=["a"]), node("c", depends_on=["gone"])]}
    console = Console(width=100, file=io.StringIO())
    console.print(conversation_view({"conversation_id": "x", "phase": "p", "request": request}))
    assert all(f"{name}_agent" in console.file.getvalue() for name in "abc")


def test_figures_are_written_out():
    text = _plain(status_view({"store": {"bytes": 9289728.0, "commit_ms": 2.0874}}))
    assert "bytes=9289728" in text and "commit_ms=2.0874" in text


def test_one_attempt_is_one_attempt():
    missing = [{"node": "a", "reason": "gone", "attempts": 1}, {"node": "b", "reason": "gone", "attempts": 0}]
    reply = {"status": "failed", "text": "no", "missing": missing}
    text = _plain(conversation_view({"conversation_id": "c", "phase": "failed", "request": {"reply": reply}}))
    assert "a: gone (1 attempt)" in text and "b: gone (0 attempts)" in text


def _plain(renderable):
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def test_show_says_why_a_conversation_is_quarantined_and_what_cannot_be_read():
    from rich.console import Console

    console = Console(width=100, file=io.StringIO())
    broken = {"quarantined": "the reason", "unreadable": {"seq": 7, "reason": "the checksum"}, "request": None}
    console.print(conversation_view({"conversation_id": "x", "phase": "paused", **broken}))
    assert "the reason" in console.file.getvalue()
    assert "at 7: the checksum" in console.file.getvalue()
    assert "held back" not in console.file.getvalue()
    console.print(conversation_view({"conversation_id": "y", "phase": "planning", "held_back": True}))
    assert "held back  others are tried first" in console.file.getvalue()


def test_events_prints_the_journal_and_follows(orch, router, monkeypatch):
    for _ in range(3):
        router.tick("c1")
    assert [json.loads(line)["seq"] for line in orch("events", "c1", "--json").stdout.splitlines()] == [1, 2, 3]
    assert orch("events", "c1", "--after", "1", "--limit", "1").stdout.split()[0] == "2"
    assert orch("events", "nobody").exit_code == 3
    assert orch("events", "c1", "--follow", "--limit", "3").exit_code == 2

    def stop_after(line, count=[0]):  # noqa: B006  # counts over the calls
        count[0] += 1
        if count[0] == 5:
            raise KeyboardInterrupt
        heard.append(line)

    heard: list[str] = []
    monkeypatch.setattr("cli.looking.result", stop_after)
    timer = threading.Timer(0.1, lambda: [router.tick("c1"), router.tick("c1")])
    timer.start()
    assert orch("events", "c1", "--follow").exit_code == 130
    assert [line.split()[0] for line in heard] == ["1", "2", "3", "4"]


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


# The terminal


def test_texts_are_made_safe_for_terminals():
    nasty = "a\x1b[31m\x9b\x07\u202eb\u2066c\r\nd\te\ud800"
    assert safe(nasty) == "a\ufffd[31m\ufffd\ufffd\ufffdb\ufffdc\ufffd\nd\te\ufffd"
    assert one_line("x\n" * 500, 10) == "x x x x x…"
    assert "\x1b" not in event_line({"seq": 1, "type": "t", "text": "\x1b[2J", "data": {"k": "\x9b2J"}})


PROGRAM = (
    "import sys; from cli import Commands, main; none = lambda *a, **k: 0; "
    "sys.exit(main(Commands(none, none, none, none, none, none)))"
)
"""The command line without a daemon behind it, as a process."""
NO_UTF8 = "caf\udce9"
"""What Python makes of a command line's bytes that are no UTF-8."""


@pytest.mark.parametrize(
    "arguments",
    [("send", "c1", NO_UTF8), ("cancel", "c1", "--reason", NO_UTF8), ("conversations", "--where", f"phase={NO_UTF8}")],
    ids=lambda arguments: arguments[0],
)
def test_bytes_that_are_no_utf8_are_a_usage_error_in_words(orch, arguments):
    result = orch(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: a text is not valid Unicode: it holds bytes that are no UTF-8 (invalid_field)\n"


def test_a_line_that_is_no_utf8_does_not_end_the_chat(server, router, tmp_path):
    router.echo = True
    done = _real("chat", "c1", url=server.url, cwd=tmp_path, input=b"caf\xe9\nhello\n", capture_output=True)
    assert done.returncode == 0
    assert b"no UTF-8" in done.stderr
    assert [message.text for message in router.submitted] == ["hello"]


@pytest.mark.parametrize(("verb", "expected"), [(("conversations",), 0), (("show", "nope"), 3), (("chat", "c2"), 0)])
def test_closed_standard_streams_change_no_exit_code(server, router, tmp_path, verb, expected):
    """As `orch show nope <&- >&- 2>&-` does."""
    shut = _real(*verb, url=server.url, cwd=tmp_path, preexec_fn=lambda: [os.close(number) for number in range(3)])
    assert shut.returncode == expected


def test_a_result_that_cannot_be_printed_is_a_failure_in_words(server, router, tmp_path):
    with Path("/dev/full").open("wb") as full:
        done = _real("status", url=server.url, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"error: the result could not be printed: No space left on device\n"


def _real(*arguments, url, cwd, **options):
    """Run the program as a process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**environment, "PYTHONPATH": str(ROOT), "ORCHESTRATOR_URL": url},
        cwd=cwd,
        timeout=30,
        check=False,
        **options,
    )


def test_a_reader_that_has_seen_enough_ends_the_program_quietly(server, router, tmp_path):
    """As a real process: `orch events c1 | head -1`."""
    for _ in range(3_000):
        router.tick("c1")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "events", "c1", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert process.stdout.readline().split()[0] == b"1"
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
