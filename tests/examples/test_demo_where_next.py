"""What the demonstration says at its end can be typed as it stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import demo

ROOT = Path(demo.__file__).parent


@pytest.mark.parametrize(
    ("called", "python", "typed"),
    [
        ("run.py", ROOT / ".venv/bin/python", ".venv/bin/python run.py"),  # `make run`
        ("run.py", Path("/opt/team/bin/python"), "/opt/team/bin/python run.py"),
        ("/opt/team/bin/orch", Path("/opt/team/bin/python"), "orch"),
    ],
)
def test_the_commands_are_those_of_the_environment_it_runs_in(monkeypatch, called, python, typed):
    """`python` alone is the system's, which has none of what the program needs."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [called, "demo"])
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "prefix", str(python.parents[1]))
    lines = demo._where_next("http://127.0.0.1:1", staying=False).splitlines()
    assert f"  {typed} serve --config examples/shop/orchestrator.toml " in lines[2]
    assert f"  {typed} chat --url http://127.0.0.1:1 " in lines[3]


def test_a_python_that_is_in_no_environment_is_called_python(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "run.py"), "demo"])
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert f"  python {ROOT / 'run.py'} serve --config {demo.SHOP} " in demo._where_next("http://h", staying=False)
