"""What cannot be right is refused at once, with the key, the value, the accepted form and the closest known name."""

from __future__ import annotations

import pytest

from config import ConfigError, Settings, load_settings


def refused(tmp_path, toml="", flags=None, **environ):
    """Return the text of each problem."""
    if toml:
        (tmp_path / "orchestrator.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(flags, environ=environ, cwd=tmp_path)
    assert caught.value.__cause__ is None, "a cause would carry the values, secrets included, into a traceback"
    return [problem.says for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MAX_AGENT_CALLS", "many", "expected a whole number, at least 1"),
        ("MAX_AGENT_CALLS", "0", "at least 1"),
        ("AGENT_TIMEOUT", "5x", "seconds, or 500ms, 30s, 5m"),
        ("AGENT_TIMEOUT", "0", "above 0"),
        ("RETRY_BASE", "nan", "expected a number, at least 1"),
        ("RANDOM_FACTOR", "1.5", "at most 1"),
        ("STATE_STORAGE", "postgress", "sqlite, postgres, redis or memory; did you mean postgres?"),
        ("TRACE_ALL", "maybe", "expected true or false"),
        ("LOG_LEVEL", "chatty", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("HTTP_BIND", "8642", "HOST:PORT, [IPV6]:PORT, or off"),
        ("HTTP_BIND", "127.0.0.1:99999", "HOST:PORT"),
        ("HTTP_BIND", "::1:80", "[IPV6]:PORT"),
        ("BUSY_POLICY", "wait", "enqueue, reject, interrupt or rollback"),
        ("PLANNER", "clever", "contracts, or module:function"),
        ("AGENTS_FROM", "shop.agents,os;rm", "module names, comma-separated"),
        ("REDIS_PREFIX", "a b", "1-64 of"),
        ("MAX_MESSAGE_BYTES", "1MB", "bytes, or 64KiB"),
        ("RESET_BACKOFF_AFTER", "soon", "seconds, or 500ms"),
        ("URL", "ftp://x", "http://HOST:PORT"),
    ],
)
def test_a_bad_value_is_named_with_its_source_and_the_accepted_form(tmp_path, name, value, words):
    """One sentence a person can act on."""
    (said,) = refused(tmp_path, **{f"ORCHESTRATOR_{name}": value})
    assert said.startswith(f"ORCHESTRATOR_{name} = {value!r} (environment ORCHESTRATOR_{name}): expected ")
    assert words in said


@pytest.mark.parametrize(
    "toml",
    [
        "max_retries = true",
        "max_retries = 1.5",
        'max_retries = "x"',
        "max_retries = []",
        "trace_all = 7",
        "data_dir = 3",
        'data_dir = "a\\u0000b"',
        "agents_from = [1]",
        "agent_timeout = inf",
        "retry_base = nan",
        "agents = 3",
        "agents.stock = 3",
        "log_level = 3",
    ],
)
def test_a_bad_value_in_the_file_is_named_with_the_file(tmp_path, toml):
    """Wrong types included; true is no number."""
    (said,) = refused(tmp_path, toml)
    assert f"file {tmp_path / 'orchestrator.toml'}" in said and "expected" in said


def test_unknown_names_are_refused_wherever_they_stand(tmp_path):
    """With what was probably meant."""
    said = refused(
        tmp_path,
        "max_retrys = 4\nORCHESTRATOR_THREADS = 5\n[tables]\nx = 1",
        {"drain_timeuot": 5},
        ORCHESTRATOR_AGENT_TIMOUT="5",
        ORCHESTRATOR_XYZZY="1",
        ORCHESTRATOR_MAX_RETRIES__X="1",
    )
    text = "\n".join(said)
    assert len(said) == 7
    assert "max_retrys = 4 (file " in text and "did you mean max_retries?" in text
    assert "did you mean threads?" in text
    assert "--drain-timeuot = 5 (flag): there is no such setting; did you mean --drain-timeout?" in text
    assert "ORCHESTRATOR_AGENT_TIMOUT = '5' (environment): there is no such setting" in text
    assert "did you mean ORCHESTRATOR_AGENT_TIMEOUT?" in text
    assert "ORCHESTRATOR_XYZZY = '1' (environment): there is no such setting" in said[1] + said[2] + said[3]


def test_options_of_agents_are_held_to_their_table(tmp_path):
    """Names, values, and the name of the agent itself."""
    said = refused(
        tmp_path,
        '[agents.stock]\ntimout = 5\neffects = "wrte"\nretries = -1\n[agents."a b"]\nretries = 1',
        ORCHESTRATOR_AGENTS__STOCK__MAX_CONCURRENCY="0",
    )
    assert sorted(each.split(" ")[0] for each in said) == [
        "ORCHESTRATOR_AGENTS__STOCK__MAX_CONCURRENCY",
        "agents.'a",
        "agents.stock.effects",
        "agents.stock.retries",
        "agents.stock.timout",
    ]
    assert any("did you mean timeout?" in each for each in said)


@pytest.mark.parametrize("name", ["AGENTS", "AGENTS__STOCK", "AGENTS__STOCK__RETRY__MORE", "AGENTS____RETRIES"])
def test_only_one_option_of_one_agent_can_be_set_at_a_time(tmp_path, name):
    """No JSON in variables."""
    assert len(refused(tmp_path, **{f"ORCHESTRATOR_{name}": "{}"})) == 1


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"HTTP_BIND": "0.0.0.0:80"}, "needs an api_token"),
        ({"HTTP_BIND": "[::]:80"}, "needs an api_token"),
        ({"HTTP_BIND": "example.org:80"}, "needs an api_token"),
        ({"BASE_RETRY_DELAY": "10", "MAX_RETRY_DELAY": "5"}, "must not be below base_retry_delay"),
        ({"STATE_STORAGE": "postgres"}, "needs postgres_dsn (or DATABASE_URL)"),
        ({"STATE_STORAGE": "postgres", "POSTGRES_DSN": "mysql://h"}, "must begin with postgresql://"),
        ({"STATE_STORAGE": "redis"}, "needs redis_url (or REDIS_URL)"),
        ({"REDIS_URL": "http://h"}, "must be a redis://"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(tmp_path, environ, words):
    """Each names the settings involved and where they came from."""
    (said,) = refused(tmp_path, **{f"ORCHESTRATOR_{name}": value for name, value in environ.items()})
    assert words in said
    assert all(f"ORCHESTRATOR_{name} = " in said or len(environ) == 2 for name in environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_BIND": "127.8.8.8:0"},
        {"HTTP_BIND": "[::1]:80"},
        {"HTTP_BIND": "localhost:80"},
        {"HTTP_BIND": "0.0.0.0:80", "API_TOKEN": "secret"},
        {"STATE_STORAGE": "postgres", "POSTGRES_DSN": "host=/run dbname=x"},
        {"STATE_STORAGE": "redis", "REDIS_URL": "unix:///run/redis.sock"},
    ],
)
def test_combinations_that_make_sense_are_taken(tmp_path, environ):
    """The other side of the same rules."""
    environ = {f"ORCHESTRATOR_{name}": value for name, value in environ.items()}
    assert isinstance(load_settings(environ=environ, cwd=tmp_path), Settings)


def test_all_problems_are_said_at_once(tmp_path):
    """A bad name, a bad value in each source, and a bad combination of values that are good by themselves."""
    said = refused(
        tmp_path,
        'threads = "x"\nnope = 1',
        {"max_retries": -1},
        ORCHESTRATOR_HTTP_BIND="0.0.0.0:80",
        ORCHESTRATOR_LEASE_TTL="?",
    )
    assert len(said) == 5


def test_the_error_is_readable_as_it_is(tmp_path):
    """`run.py` prints it and exits with 78."""
    with pytest.raises(ConfigError, match=r"^2 problems in the configuration:\n- .*\n- .*$"):
        load_settings({"nope": 1}, environ={"ORCHESTRATOR_THREADS": "0"}, cwd=tmp_path)


def test_secrets_are_masked_in_errors(tmp_path):
    """Also those whose name was misspelled, or that stand in the wrong place."""
    said = "\n".join(
        refused(
            tmp_path,
            'api_tokn = "MARK1"\nredis_url = 5\n[agents.x]\napi_key = "MARK2"',
            ORCHESTRATOR_POSTGRES_DNS="postgresql://u:MARK3@h/d",
            ORCHESTRATOR_REDIS_URI="redis://:MARK4@h",
            ORCHESTRATOR_HTTP_BIND="http://u:MARK5@h/",
            ORCHESTRATOR_SECRET_SAUCE="MARK6",
            REDIS_URL="http://u:MARK7@h/?x=MARK8",
        )
    )
    assert "MARK" not in said
    assert "did you mean api_token?" in said and "did you mean ORCHESTRATOR_POSTGRES_DSN?" in said


def test_a_named_file_that_is_missing_is_an_error(tmp_path):
    """An unnamed one need not be there."""
    assert refused(tmp_path, flags={"config": "x.toml"}) == ["config = 'x.toml' (flag --config): there is no such file"]
    assert "ORCHESTRATOR_CONFIG" in refused(tmp_path, ORCHESTRATOR_CONFIG="x.toml")[0]


@pytest.mark.parametrize("content", [b"max_retries = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_an_error_that_names_it(tmp_path, content):
    """With what the parser says, and the other problems."""
    path = tmp_path / "orchestrator.toml"
    path.write_bytes(content)
    said = refused(tmp_path, ORCHESTRATOR_THREADS="0")
    assert len(said) == 2 and f"file {path} is not TOML" in said[0]


def test_a_file_cannot_name_another_file(tmp_path):
    """It would be read too late."""
    assert "cannot name another" in refused(tmp_path, 'config = "x.toml"')[0]


def test_what_kubernetes_sets_for_a_service_of_our_name_is_passed_over(tmp_path):
    """Otherwise a Service called `orchestrator` would keep the daemon from starting."""
    environ = {
        "ORCHESTRATOR_SERVICE_HOST": "10.0.0.1",
        "ORCHESTRATOR_SERVICE_PORT": "80",
        "ORCHESTRATOR_SERVICE_PORT_HTTP": "80",
        "ORCHESTRATOR_PORT": "tcp://10.0.0.1:80",
        "ORCHESTRATOR_PORT_80_TCP": "tcp://10.0.0.1:80",
        "ORCHESTRATOR_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load_settings(environ=environ, cwd=tmp_path) == Settings()
