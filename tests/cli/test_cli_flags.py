"""Flags and settings of the command line: where they may stand, what they reach, and what is said of wrong ones."""

from __future__ import annotations

import json

import pytest
from typer.main import get_command

from cli import build_app
from config import ConfigError, Settings


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
