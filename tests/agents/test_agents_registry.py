"""Agents are found where the configuration says, and what it says of them wins."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import agent_fixtures
import pytest

from agents.decorator import make_spec, spec_of
from agents.errors import AgentDefinitionError, ContractViolation, UnknownAgent
from agents.registry import Registry, load_function

MODULE = "agent_fixtures"


@pytest.fixture
def module(monkeypatch):
    """Make a module of that name which can be imported."""

    def make(name: str, **contents):
        made = ModuleType(name)
        vars(made).update(contents)
        monkeypatch.setitem(sys.modules, name, made)

    return make


def test_modules_give_their_decorated_functions_and_nothing_else():
    registry = Registry.from_config([MODULE], {})
    assert registry.names() == ["echo", "guess", "stock"] == [spec.name for spec in registry]
    assert len(registry) == 3
    assert registry.get("stock").timeout == 5
    assert registry.find("nobody") is None
    assert registry.describe()["echo"] == "Say it again."


def test_an_unknown_agent_comes_with_the_closest_name():
    registry = Registry.from_config([MODULE], {})
    with pytest.raises(UnknownAgent, match=r"no agent 'stok'; did you mean 'stock'\?"):
        registry.get("stok")
    assert registry.closest("zzzzz") == ""


def test_a_function_seen_in_two_modules_is_one_agent(module):
    module("another_shop", stock=agent_fixtures.stock, guess=agent_fixtures.guess, alias=agent_fixtures.stock)
    assert len(Registry.from_config([MODULE, "another_shop"], {})) == 3


def test_two_functions_of_one_name_are_refused(module):
    def stock(sku: str) -> int:
        """Count otherwise."""

    stock.__agent_spec__ = make_spec(stock, {})
    module("another_shop", stock=stock)
    with pytest.raises(AgentDefinitionError, match=r"two agents are named stock: .*agent_fixtures:stock and .*stock"):
        Registry.from_config([MODULE, "another_shop"], {})
    spec = spec_of(agent_fixtures.guess)
    with pytest.raises(AgentDefinitionError, match="two agents are named guess"):
        Registry([spec, spec])


def test_declarations_win_over_the_decorator():
    declared = {"stock": {"timeout": 9, "examples": ["how many?"], "transient": ["OSError"], "reply": None}}
    spec = Registry.from_config([MODULE], declared).get("stock")
    assert (spec.timeout, spec.examples, spec.transient, spec.on_failure) == (
        9,
        ("how many?",),
        (OSError,),
        "fallback:guess",
    )


def test_a_declaration_can_name_any_function_and_describe_it():
    declared = {
        "count": {"function": f"{MODULE}:plain", "retries": 0, "description": "Count.", "examples": "sum it up"},
        "again": {"function": f"{MODULE}:guess", "permanent": "builtins:ValueError"},
    }
    registry = Registry.from_config([], declared)
    assert (registry.get("count").retries, registry.get("count").description) == (0, "Count.")
    assert registry.get("count").examples == ("sum it up",)
    assert registry.get("again").permanent == (ValueError,)


def test_errors_of_a_renamed_agent_tell_its_new_name():
    registry = Registry.from_config([], {"again": {"function": f"{MODULE}:guess"}})
    with pytest.raises(ContractViolation, match=r"^again: input.sku"):
        registry.get("again").contract.bind({"sku": 5}, text="")


WRONG = [
    ({"stock": {"timout": 5}}, r"\[agents.stock\]: there is no option 'timout'; did you mean 'timeout'\?"),
    ({"stock": {"funktion": "a:b"}}, r"did you mean 'function'\?"),
    ({"stock": {"name": "other"}}, "there is no option 'name'"),
    ({"stock": {"contract": "x"}}, "there is no option 'contract'"),
    ({"stock": {"timeout": -1}}, "timeout is -1; it takes a positive number of seconds"),
    ({"stock": {"transient": ["Nope"]}}, r"\[agents.stock\]: transient holds 'Nope'; it takes module:ErrorType"),
    ({"stock": {"transient": [5]}}, "holds 5; it takes names of exception types"),
    ({"stock": {"transient": "int"}}, "it takes exception types"),
    ({"stock": {"kind": "http"}}, "kind is 'http'; this build has only 'python'"),
    ({"new": {"timeout": 5}}, "it names no function"),
    ({"new": {"function": "nowhere:f"}}, "cannot import nowhere"),
    ({"new": {"function": f"{MODULE}:nothing"}}, f"{MODULE} has no nothing"),
    ({"new": {"function": MODULE}}, "it takes module:function"),
    ({"new": {"function": f"{MODULE}:trap"}}, "is a Trap, not a function"),
    ({"new": {"function": f"{MODULE}:Trap"}}, "not a function"),
    ({"two words": {"function": f"{MODULE}:plain"}}, "name is 'two words'"),
    ({"stock": {"on_failure": "fallback:gues"}}, r"its fallback 'gues' is no agent; did you mean 'guess'\?"),
    ({"stock": {"on_failure": "fallback:stock"}}, "another agent as its fallback"),
]


@pytest.mark.parametrize(("declared", "why"), WRONG)
def test_a_wrong_declaration_says_what_is_right(declared, why):
    with pytest.raises(AgentDefinitionError, match=why):
        Registry.from_config([MODULE], declared)


def test_a_module_without_agents_or_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    with pytest.raises(AgentDefinitionError, match="json holds no function with @agent"):
        Registry.from_config(["json"], {})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "broken_shop.py").write_text("1 / 0\n")
    for name, why in (("leaves_at_once", "SystemExit"), ("broken_shop", "ZeroDivisionError")):
        with pytest.raises(AgentDefinitionError, match=f"cannot import {name}: {why}"):
            Registry.from_config([name], {})


def test_a_module_of_the_working_directory_is_found_last_of_all(tmp_path, monkeypatch):
    """As with `python run.py` beside it, so with an installed `orch`; and nothing that is installed is hidden by it."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    text = "from agents import agent\n\n@agent\ndef here() -> int:\n    'A number.'\n    return 1\n"
    (tmp_path / "agents_of_this_folder.py").write_text(text)
    (tmp_path / "json.py").write_text("1 / 0\n")
    try:
        assert Registry.from_config(["agents_of_this_folder"], {}).names() == ["here"]
        assert sys.path[-1] == str(tmp_path)
        with pytest.raises(AgentDefinitionError, match="json holds no function"):
            Registry.from_config(["json"], {})
    finally:
        sys.modules.pop("agents_of_this_folder", None)


def test_fallbacks_must_exist():
    lonely = replace(spec_of(agent_fixtures.stock))
    with pytest.raises(AgentDefinitionError, match="fallback 'guess' is no agent"):
        Registry([lonely])


def test_nested_names_can_be_loaded():
    assert load_function("json:JSONEncoder.default", "x").__name__ == "default"
