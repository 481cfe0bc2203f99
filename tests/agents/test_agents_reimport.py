"""A reload reads agents' modules from disk again, whole packages of them, or leaves everything as it was."""

from __future__ import annotations

import importlib
import sys

import pytest

from agents.registry import Registry
from agents.reimport import OURS, imported_anew

AGENT = '''
from agents import agent

from {helper} import WORD


@agent
def greet(name: str) -> str:
    """Say a word."""
    return f"{{WORD}} {{name}}{more}"
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def greeting():
    return Registry.from_config(["greetings.agents"], {}).get("greet").function("ann")


def test_a_package_is_read_again_with_what_it_imports_from_itself(place):
    write(place / "greetings" / "__init__.py", "")
    write(place / "greetings" / "words.py", "WORD = 'hi'\n")
    write(place / "greetings" / "agents.py", AGENT.format(helper="greetings.words", more=""))
    assert greeting() == "hi ann"
    old = sys.modules["greetings.agents"]
    write(place / "greetings" / "words.py", "WORD = 'good evening'\n")
    assert greeting() == "hi ann", "nothing is read again by itself"
    with imported_anew(["greetings.agents"]):
        assert greeting() == "good evening ann"
    assert sys.modules["greetings.agents"] is not old
    assert old.greet("bob") == "hi bob", "who still uses the old one is served by the old one"


def test_a_module_that_fails_leaves_the_old_ones_in_place(place):
    write(place / "greetings" / "__init__.py", "")
    write(place / "greetings" / "words.py", "WORD = 'hi'\n")
    write(place / "greetings" / "agents.py", AGENT.format(helper="greetings.words", more=""))
    assert greeting() == "hi ann"
    old = {name: module for name, module in sys.modules.items() if name.startswith("greetings")}
    write(place / "greetings" / "agents.py", "import greetings.words\nraise RuntimeError('half written')\n")
    with pytest.raises(Exception, match="half written"), imported_anew(["greetings.agents"]):
        greeting()
    assert {name: module for name, module in sys.modules.items() if name.startswith("greetings")} == old
    assert greeting() == "hi ann"


def test_the_program_itself_is_never_dropped():
    mine = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in OURS}
    with imported_anew(["agents.errors", "messages.plan"]):
        importlib.import_module("agents.errors")
        kept = {name: module for name, module in mine.items() if name not in ("agents.errors", "messages.plan")}
        assert all(sys.modules.get(name) is module for name, module in kept.items())
    sys.modules.update(mine)
