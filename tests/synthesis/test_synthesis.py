"""Replies say what the agents found and what is missing, and never more than plain data."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.decorator import make_spec
from agents.errors import AgentDefinitionError, ResultTooLarge
from agents.registry import Registry
from messages.events import Missing
from messages.synthesis import Outcome, Synthesize
from synthesis.load import NotAText, load_synthesizer
from synthesis.template import MissingField, TemplateSynthesizer, fill, show


def stock_level(sku: str) -> int:
    """Count."""
    return len(sku)


def outcome(result: Any = None, node: str = "a", *, agent: str = "stock_level", **options: Any) -> Outcome:
    return Outcome(node, agent, "", options.get("inputs", {}), result, options.get("succeeded", True))


def order(*outcomes: Outcome, missing: tuple[Missing, ...] = ()) -> Synthesize:
    return Synthesize("c", "r", 1, "how many?", "before", outcomes, missing)


def write(*outcomes: Outcome, reply: str | None = None, missing: tuple[Missing, ...] = ()) -> str:
    registry = Registry([make_spec(stock_level, {"reply": reply})])
    return TemplateSynthesizer(registry).write(order(*outcomes, missing=missing))


def test_an_agents_own_sentence_is_filled_in():
    result = {"title": "Grinder", "price": 1234.5, "shelf": {"units": [3, 4]}}
    assert write(outcome(result), reply="{title} costs {price:,.2f} {{EUR}}") == "Grinder costs 1,234.50 {EUR}."
    assert write(outcome(result), reply="{shelf.units.1} of {title:>9}!") == "4 of   Grinder!"
    assert write(outcome(7), reply="{result} units") == "7 units."


def test_a_field_that_is_missing_falls_back_to_plain_words():
    assert write(outcome({"units": 3}), reply="{title} costs much") == "Stock level: units 3."


ATTACKS = [
    "{x.__class__}",
    "{x.__class__.__mro__}",
    "{__class__}",
    "{result.__init__.__globals__}",
    "{x.0.__class__}",
    "{x[0]}",
    "{x!r}",
    "{0}",
    "{}",
    "{x:{y}}",
    "{x:999999999d}",
    "{x:%Y}",
    "{x.²}",
    "{x.99999999999999999999}",
    "{x.-1}",
    "{{{x}",
    "}{",
    "{x:" + "9" * 19 + "}",
]


@pytest.mark.parametrize("template", ATTACKS)
def test_format_string_attacks_are_harmless(template):
    for result in ({"x": 5}, {"x": [1]}, {"x": "text"}, [1], 5, "{x}", None):
        said = write(outcome(result), reply=template)
        assert "class" not in said.replace("__class__", "") and "0x" not in said and len(said) < 1100


def test_what_an_agent_found_is_never_read_as_a_template():
    assert write(outcome({"x": "{y} {{}} {0.__class__}", "y": "secret"}), reply="{x}") == "{y} {{}} {0.__class__}."


def test_formats_that_do_not_fit_the_value_show_it_plainly():
    assert fill("{x:d} {x:.2f} {x:%}", {"x": "a"}) == "a a a"
    assert fill("{x:.1f} {y:,d} {z:.0%}", {"x": 1.25, "y": 12345, "z": 0.5}) == "1.2 12,345 50%"
    assert fill("{x:.2f}", {"x": None}) == "nothing"


@given(st.text(alphabet="{}[]:.!_x0aclfd%²", max_size=20), st.sampled_from([{"x": {"a": [1.5]}}, [0], 5, None, "{x}"]))
def test_filling_raises_nothing_but_a_missing_field(template, result):
    try:
        assert isinstance(fill(template, result), str)
    except MissingField:
        return


def test_plain_data_is_put_in_words():
    assert show(None) == "nothing" == show("") == show({})
    assert (show(True), show(False), show([])) == ("yes", "no", "none")
    assert show({"unit_price": 1200.0, "left": [1, 2]}) == "unit price 1,200.00, left 1; 2"
    assert show(list(range(9))) == "0; 1; 2; 3; 4; 5; and 3 more"
    assert (show(0.0001), show(1e300), show(0.0)) == ("0.0001", "1e+300", "0.00")


def test_only_final_results_are_said_not_those_that_fed_others():
    fed = outcome({"sku": "AB-1"}, "find", agent="find")
    final = outcome(3, "s", inputs={"sku": {"$from": "find.sku"}})
    assert write(fed, final) == "Stock level: 3."
    assert write(fed, outcome(None, "s", inputs={"sku": {"$from": "find.sku"}}, succeeded=False)) == "Find: sku AB-1."


def test_the_same_sentence_is_said_once_and_in_plan_order():
    assert write(outcome(1, "a"), outcome(2, "b"), outcome(1, "c")) == "Stock level: 1. Stock level: 2."


def test_what_is_missing_is_always_said_with_its_reason():
    gone = (Missing(node="a", reason="timed out.", attempts=2), Missing(node="x", reason="skipped", attempts=0))
    said = write(outcome(None, "a", succeeded=False), missing=gone)
    assert said == "Missing: stock level after 2 attempts (timed out). Missing: x (skipped)."
    once = (Missing(node="a", reason="broke", attempts=1),)
    assert "after 1 attempt (broke)." in write(outcome(succeeded=False), missing=once)


# Loading


@pytest.fixture
def load(monkeypatch):
    made = ModuleType("some_writers")

    def blocking(text, results, context):
        assert context.agents == {"stock_level": "Count."} and context.context == "before"
        return f"{text} {results}"

    async def later(text, results, context):
        await asyncio.sleep(0)
        return blocking(text, results, context)

    async def later_wrong(*_):
        return 5

    vars(made).update(blocking=blocking, later=later, later_wrong=later_wrong, wrong=lambda *_: None, number=5)
    monkeypatch.setitem(sys.modules, "some_writers", made)
    return lambda name, **more: load_synthesizer(name, Registry([make_spec(stock_level, {})]), **more)


def test_template_is_the_default(load):
    assert load("template").write(order(outcome(3))) == "Stock level: 3."


def test_functions_blocking_or_async_get_the_results_by_node(load):
    given_order = order(outcome(3), outcome(None, "b", succeeded=False))
    assert load("some_writers:blocking").write(given_order) == "how many? {'a': 3}"
    assert asyncio.run(load("some_writers:later").write(given_order)) == "how many? {'a': 3}"


def test_a_reply_that_is_no_text_is_a_permanent_error(load):
    with pytest.raises(NotAText, match="returned NoneType; a reply is a text") as caught:
        load("some_writers:wrong").write(order())
    assert caught.value.error_class == "permanent"
    with pytest.raises(NotAText, match="returned int"):
        asyncio.run(load("some_writers:later_wrong").write(order()))


def test_a_text_larger_than_it_may_be_is_a_permanent_error(load):
    """In bytes, not characters; what is just as large as it may be is taken."""
    given = order(outcome("ü"))
    written = load("some_writers:blocking", max_bytes=21).write(given)
    assert len(written.encode()) == 21 > len(written)
    with pytest.raises(ResultTooLarge, match="has 21 bytes; at most 20 are taken") as caught:
        load("some_writers:blocking", max_bytes=20).write(given)
    assert (caught.value.error_type, caught.value.error_class) == ("result_too_large", "permanent")
    with pytest.raises(ResultTooLarge):
        asyncio.run(load("some_writers:later", max_bytes=20).write(given))


@pytest.mark.parametrize("name", ["templates", "nowhere:x", "some_writers:nope", "some_writers:number"])
def test_a_wrong_name_is_refused(load, name):
    with pytest.raises(AgentDefinitionError, match="synthesizer"):
        load(name)
