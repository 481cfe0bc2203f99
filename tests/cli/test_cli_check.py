"""`check` tells the author of an agent what would only show in a reply, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import run
from cli.app import build_app
from cli.commands import Commands

AGENTS = """
from pydantic import BaseModel
from agents import agent

class Place(BaseModel):
    name: str

class Forecast(BaseModel):
    place: Place
    degrees: float

@agent(reply="{place.name}: {degrees:.1f} degrees")
def fits(text: str) -> Forecast:
    \"\"\"All fields there.\"\"\"
    raise AssertionError

@agent(reply="{place.town}: {celsius} {{not a field}}")
def misses(text: str) -> Forecast:
    \"\"\"Two fields that are not.\"\"\"
    raise AssertionError

@agent(reply="{anything} goes")
def open_(text: str) -> dict[str, str]:
    \"\"\"Nobody can know.\"\"\"
    raise AssertionError

@agent(reply="the sum is {result}")
def plain(text: str) -> int:
    \"\"\"The whole result.\"\"\"
    raise AssertionError
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return how to check some agents, with a configuration file; the answer is the exit code and the words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    commands = Commands(
        *(getattr(run, f"_{name}") for name in ("serve", "demo", "check", "migrate", "local_chat", "chaos"))
    )

    def checked(module: str, toml: str = "") -> tuple[int, str]:
        (tmp_path / f"{module}.py").write_text(AGENTS)
        (tmp_path / "orchestrator.toml").write_text(f'agents_from = ["{module}"]\n{toml}')
        told = CliRunner().invoke(build_app(commands), ["check"])
        return told.exit_code, told.stderr

    return checked


def test_a_field_of_a_reply_that_the_result_never_has_is_a_caution(check):
    """The sentence would quietly never be used."""
    exit_code, words = check("checked_replies")
    told = sorted(line for line in words.splitlines() if line.startswith("caution: agent "))
    assert exit_code == 0
    assert [line.split(",")[0] for line in told] == [
        "caution: agent misses: its reply names celsius",
        "caution: agent misses: its reply names place.town",
    ]


@pytest.mark.parametrize("name", ["builtins.OSError", "Busy"])
def test_an_error_type_that_is_no_name_of_one_is_told_with_the_form_it_takes(check, name):
    exit_code, words = check(f"checked_{name.replace('.', '_')}", f'[agents.plain]\ntransient = ["{name}"]\n')
    assert exit_code == 78
    assert f"transient holds '{name}'; it takes module:ErrorType, or the name of a built-in one" in words
