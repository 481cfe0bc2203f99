"""Every setting has its promised name and default, and comes from the first source that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import ConfigError, Settings, cautions, diff, explain, live_names, load_settings, markdown, secret_values

PROMISED = [
    ("MAX_AGENT_CALLS", 5, "7", 7),
    ("AGENT_TIMEOUT", 60.0, "90s", 90.0),
    ("PARALLEL_THRESHOLD", 2, "3", 3),
    ("MAX_RETRIES", 3, "0", 0),
    ("BASE_RETRY_DELAY", 1.0, "500ms", 0.5),
    ("MAX_RETRY_DELAY", 30.0, "1m", 60.0),
    ("RETRY_BASE", 2.0, "1.5", 1.5),
    ("STATE_STORAGE", "sqlite", "memory", "memory"),
    ("PERSIST_CONVERSATIONS", True, "false", False),
    ("PERSIST_AGENT_STATE", True, "0", False),
    ("MAX_CONTEXT_TOKENS", 1_000, "2000", 2_000),
    ("RECENT_MESSAGES_LIMIT", 10, "0", 0),
    ("COMPRESSION_THRESHOLD", 50_000, "1", 1),
    ("STRUCTURED_LOGGING", True, "no", False),
    ("LOG_LEVEL", "INFO", "debug", "DEBUG"),
    ("TRACE_ALL", True, "off", False),
    ("DATA_DIR", Path("var"), "/srv/orch", Path("/srv/orch")),
    ("POSTGRES_DSN", None, "postgresql://h/d", "postgresql://h/d"),
    ("REDIS_URL", None, "redis://h/0", "redis://h/0"),
    ("REDIS_PREFIX", "orch", "shop", "shop"),
    ("HTTP_BIND", "127.0.0.1:8642", "off", "off"),
    ("API_TOKEN", None, "t" * 32, "t" * 32),
    ("RANDOM_FACTOR", 0.2, "0", 0.0),
    ("RESET_BACKOFF_AFTER", None, "2m", 120.0),
    ("DRAIN_TIMEOUT", 30.0, "0", 0.0),
    ("PASSIVATE_AFTER", 300.0, "1h", 3_600.0),
    ("MAILBOX_LIMIT", 1_000, "5", 5),
    ("MAX_MESSAGE_BYTES", 1_048_576, "64KiB", 65_536),
    ("MAX_RESULT_BYTES", 4_194_304, "1024", 1_024),
    ("LEASE_TTL", 10.0, "2", 2.0),
    ("INBOX_RETENTION", 86_400.0, "48h", 172_800.0),
    ("QUARANTINE_AFTER", 5, "2", 2),
    ("THREADS", 32, "4", 4),
    ("BUSY_POLICY", "enqueue", "rollback", "rollback"),
    ("AGENTS_FROM", (), "shop.agents, shop.more", ("shop.agents", "shop.more")),
    ("PLANNER", "contracts", "shop.plan:draw", "shop.plan:draw"),
    ("SYNTHESIZER", "template", "shop.say:it", "shop.say:it"),
]


def loaded(tmp_path, toml="", flags=None, **environ):
    if toml:
        (tmp_path / "orchestrator.toml").write_text(toml, encoding="utf-8")
    return load_settings(flags, environ=environ, cwd=tmp_path)


def bare(value):
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@pytest.mark.parametrize(("name", "default", "written", "value"), PROMISED, ids=[row[0] for row in PROMISED])
def test_the_promised_names_defaults_and_forms(tmp_path, name, default, written, value):
    """The two tables of the interface: what nobody sets, and what the environment says."""
    assert getattr(loaded(tmp_path), name.lower()) == default
    assert getattr(Settings(), name.lower()) == default
    assert bare(getattr(loaded(tmp_path, **{f"ORCHESTRATOR_{name}": written}), name.lower())) == value


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path):
    """One by one, from the weakest to the strongest."""
    toml, environ = "max_retries = 4", {"ORCHESTRATOR_MAX_RETRIES": "5"}
    assert loaded(tmp_path).max_retries == 3
    assert loaded(tmp_path, toml).max_retries == 4
    assert loaded(tmp_path, toml, **environ).max_retries == 5
    assert loaded(tmp_path, toml, {"max_retries": 6}, **environ).max_retries == 6
    assert loaded(tmp_path, toml, {"max_retries": None}, **environ).max_retries == 5


def test_each_value_knows_where_it_came_from(tmp_path):
    """The `config` verb says it."""
    settings = loaded(
        tmp_path, "threads = 4\n[agents.stock]\nretries = 1", {"max_retries": 6}, ORCHESTRATOR_DRAIN_TIMEOUT="5s"
    )
    origin = {row.name: row.origin for row in explain(settings)}
    assert origin["threads"] == f"file {tmp_path / 'orchestrator.toml'}"
    assert origin["agents.stock.retries"] == f"file {tmp_path / 'orchestrator.toml'}"
    assert (origin["max_retries"], origin["drain_timeout"], origin["lease_ttl"]) == (
        "flag",
        "environment ORCHESTRATOR_DRAIN_TIMEOUT",
        "default",
    )


def test_the_file_is_the_named_one_else_the_one_that_is_there(tmp_path):
    """`--config`, `ORCHESTRATOR_CONFIG`, `./orchestrator.toml`."""
    for number, name in enumerate(("orchestrator.toml", "b.toml", "c.toml"), 1):
        (tmp_path / name).write_text(f"threads = {number}", encoding="utf-8")
    assert loaded(tmp_path).threads == 1
    assert loaded(tmp_path, ORCHESTRATOR_CONFIG="b.toml").threads == 2
    assert loaded(tmp_path, flags={"config": tmp_path / "c.toml"}, ORCHESTRATOR_CONFIG="b.toml").threads == 3


def test_agents_of_file_and_environment_are_merged_option_by_option(tmp_path):
    """The environment wins, spells names its own way, and reaches agents the file does not have."""
    settings = loaded(
        tmp_path,
        '[agents.stock-level]\nfunction = "shop.agents:stock"\ntimeout = "500ms"\nexamples = ["a, b", "c"]',
        ORCHESTRATOR_AGENTS__STOCK_LEVEL__TIMEOUT="5",
        ORCHESTRATOR_AGENTS__PRICE__RETRIES="2",
        ORCHESTRATOR_AGENTS__PRICE__ON_FAILURE="fallback:old_price",
    )
    assert settings.agents == {
        "stock-level": {"function": "shop.agents:stock", "timeout": 5.0, "examples": ("a, b", "c")},
        "price": {"retries": 2, "on_failure": "fallback:old_price"},
    }
    origin = {row.name: row.origin for row in explain(settings)}
    assert origin["agents.stock-level.timeout"] == "environment ORCHESTRATOR_AGENTS__STOCK_LEVEL__TIMEOUT"


def test_common_variables_fill_in_when_nobody_else_names_the_connection(tmp_path):
    """`DATABASE_URL` and `REDIS_URL` are read last; `off` keeps Redis away all the same."""
    environ = {"DATABASE_URL": "postgresql://common/d", "REDIS_URL": "redis://common"}
    settings = loaded(tmp_path, **environ)
    assert (bare(settings.postgres_dsn), bare(settings.redis_url)) == ("postgresql://common/d", "redis://common")
    assert bare(loaded(tmp_path, **environ, ORCHESTRATOR_REDIS_URL="redis://mine").redis_url) == "redis://mine"
    assert loaded(tmp_path, **environ, ORCHESTRATOR_REDIS_URL="off").redis_url is None
    assert bare(loaded(tmp_path, 'redis_url = "redis://file"', **environ).redis_url) == "redis://file"


def test_an_empty_variable_is_not_set(tmp_path):
    """As compose files write what they leave open."""
    assert loaded(tmp_path, ORCHESTRATOR_MAX_RETRIES="", ORCHESTRATOR_CONFIG="").max_retries == 3


def test_settings_made_by_hand_do_not_read_the_environment(monkeypatch):
    """A test that builds settings gets what it wrote."""
    monkeypatch.setenv("ORCHESTRATOR_MAX_RETRIES", "9")
    assert Settings(threads=1).max_retries == 3


def test_secrets_are_shown_nowhere(tmp_path):
    """Not in rows, not in the text of the settings; of a URL the place is shown, of a token nothing."""
    settings = loaded(
        tmp_path,
        ORCHESTRATOR_API_TOKEN="MARK-token",
        ORCHESTRATOR_POSTGRES_DSN="host=db password=MARK-dsn",
        ORCHESTRATOR_REDIS_URL="rediss://user:MARK-url@cache:6380/1?password=MARK-query",
    )
    shown = f"{explain(settings)} {settings!r} {settings} {settings.model_dump()} {cautions(settings)}"
    assert "MARK" not in shown
    assert next(row.value for row in explain(settings) if row.name == "redis_url") == "rediss://***@cache:6380/1"
    assert {"MARK-token", "MARK-dsn", "MARK-url", "MARK-query"} <= set(secret_values(settings))


def test_secret_values_know_how_passwords_are_quoted_in_urls():
    """A driver's error may show the password decoded."""
    assert "p@ss word" in secret_values(Settings(postgres_dsn="postgresql://u:p%40ss%20word@h/d"))


def test_what_a_setting_costs_is_said_where_it_costs():
    """`persist_*` off is a choice with a price."""
    said = {row.name: row.cost for row in explain(Settings(persist_conversations=False))}
    assert "loses" in said["persist_conversations"]
    assert said["persist_agent_state"] == ""
    assert any("persist_conversations = false" in each for each in cautions(Settings(persist_conversations=False)))
    assert cautions(Settings()) == []


def test_a_daemon_nobody_can_talk_to_is_allowed_but_said():
    """It may still be embedded; `check` and `serve` mention it."""
    assert any("nobody can talk" in each for each in cautions(Settings(http_bind="off")))
    assert cautions(Settings(http_bind="off", redis_url="redis://h")) == []


def test_a_row_per_setting_with_all_there_is_to_know():
    """Name, variable, value, unit, default, origin, meaning."""
    rows = {row.name: row for row in explain(Settings())}
    assert rows.keys() == Settings.model_fields.keys() - {"agents"}
    assert all(row.meaning.endswith(".") and row.env == f"ORCHESTRATOR_{row.name.upper()}" for row in rows.values())
    assert (rows["agent_timeout"].value, rows["agent_timeout"].unit, rows["agent_timeout"].default) == (60, "s", 60)


def test_a_reload_names_what_changed_and_what_can_change_live():
    """The rest needs a restart."""
    changed = diff(Settings(), Settings(log_level="DEBUG", threads=1, agents={"a": {"retries": 1}}))
    assert changed == ["threads", "log_level", "agents"]
    assert live_names() & {"log_level", "threads", "api_token", "http_bind"} == {"log_level", "api_token"}


@pytest.mark.parametrize(
    ("bind", "url", "expected"),
    [
        ("127.0.0.1:8642", None, "http://127.0.0.1:8642"),
        ("0.0.0.0:80", None, "http://127.0.0.1:80"),
        ("[::]:80", None, "http://[::1]:80"),
        ("off", None, None),
        ("off", "http://other:1/", "http://other:1"),
    ],
)
def test_verbs_find_the_daemon_by_its_url_else_by_its_address(bind, url, expected):
    """An address that means "every interface" is reached through loopback."""
    assert Settings(http_bind=bind, url=url).daemon_url == expected


def test_the_page_in_the_docs_is_the_model():
    """Run `python -m config --markdown > docs/configuration.md` after a change of a setting."""
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == markdown()


def test_defaults_are_within_their_own_bounds():
    """What the model would refuse from anybody else it does not have itself."""
    given = {name: value for name, value in Settings() if value is not None}
    assert Settings(**given) == Settings()


def test_nothing_is_written_by_reading(tmp_path):
    """`load_settings` may be called again at any time."""
    loaded(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError):
        loaded(tmp_path, flags={"config": "missing.toml"})
