"""The files in deploy/ name only what there is: settings, verbs, ports, paths, and files that are in the repository."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cli.exit_codes import BAD_CONFIGURATION
from config import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PORT = Settings().http_address[1]


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(DEPLOY.joinpath("orchestrator.service").read_text())
    return parser


def compose():
    return yaml.safe_load(DEPLOY.joinpath("compose.yaml").read_text())


@pytest.mark.parametrize("name", ["orchestrator.service", "Containerfile", "compose.yaml"])
def test_every_setting_that_is_named_exists(name):
    text = DEPLOY.joinpath(name).read_text()
    named = {word.lower() for word in re.findall(r"ORCHESTRATOR_([A-Z_]+)", text)}
    assert named
    assert named <= set(Settings.model_fields), named - set(Settings.model_fields)


def test_the_unit_waits_for_readiness_is_watched_and_gives_draining_its_time():
    service = unit()["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert service["ExecStart"].split()[1:3] == ["run.py", "serve"]
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["WatchdogSec"]) >= 10
    assert int(service["TimeoutStopSec"]) > Settings().drain_timeout + 10
    assert service["RestartPreventExitStatus"] == str(BAD_CONFIGURATION)
    assert service["Environment"].endswith(service["StateDirectory"])


def test_the_unit_starts_the_daemon_as_often_as_finding_out_who_ends_it_takes():
    """A conversation is set aside after `quarantine_after` deaths, found among others after some more of them."""
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit()["Service"]["Restart"] == "on-failure"


def test_the_page_makes_every_place_that_the_unit_needs():
    """What is typed as it stands there has the program, its environment and its configuration where the unit looks."""
    commands = re.findall(r"^    # (.+)$", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE)
    service = unit()["Service"]
    for needed in (service["WorkingDirectory"], service["ExecStart"].split("--config ")[1], service["User"]):
        assert any(needed in command for command in commands), needed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_understands_every_line_of_the_unit():
    command = ["systemd-analyze", "verify", str(DEPLOY / "orchestrator.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "orchestrator" in line]
    assert all("is not executable" in line or "Failed to open" in line for line in said), said


def test_the_image_installs_what_the_lock_says_and_runs_as_nobody_special():
    text = DEPLOY.joinpath("Containerfile").read_text()
    assert "--require-hashes" in text
    lock = re.search(r"-r (\S+\.lock)", text)[1]
    assert "--hash=sha256:" in ROOT.joinpath(lock).read_text()
    assert "USER orchestrator" in text
    assert f"EXPOSE {PORT}" in text
    assert f"0.0.0.0:{PORT}" in text
    assert 'ENTRYPOINT ["python", "run.py"]' in text


def test_the_image_has_what_the_program_needs_and_nothing_of_the_tests():
    """Versions are those that the tests ran with."""

    def pinned(path):
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", ROOT.joinpath(path).read_text(), re.MULTILINE))

    tested, shipped = pinned("requirements.lock"), pinned("deploy/requirements.lock")
    assert shipped.items() <= tested.items()
    assert {"pykka", "redis", "msgpack", "pydantic", "psycopg", "structlog", "uvicorn"} <= set(shipped)
    assert not {"pytest", "mypy", "ruff", "hypothesis"} & set(shipped)


def test_the_services_wait_for_each_other_and_lose_nothing():
    services = compose()["services"]
    daemon, redis = services["daemon"], services["redis"]
    assert {name: on["condition"] for name, on in daemon["depends_on"].items()} == {
        "postgres": "service_healthy",
        "redis": "service_healthy",
    }
    assert all("healthcheck" in services[name] for name in daemon["depends_on"])
    told = " ".join(redis["command"])
    assert "--appendonly yes" in told
    assert "--appendfsync always" in told
    assert "--maxmemory-policy noeviction" in told
    assert daemon["ports"] == [f"127.0.0.1:{PORT}:{PORT}"], "published on loopback only"
    assert int(daemon["stop_grace_period"].removesuffix("s")) > Settings().drain_timeout + 10
    assert set(compose()["volumes"]) == {"daemon", "redis", "postgres"}
    assert ROOT.joinpath(daemon["build"]["dockerfile"]).exists()
    environment = daemon["environment"]
    assert environment["ORCHESTRATOR_API_TOKEN"].startswith("${ORCHESTRATOR_API_TOKEN:?")
    assert "${POSTGRES_PASSWORD:?" in environment["ORCHESTRATOR_POSTGRES_DSN"]
