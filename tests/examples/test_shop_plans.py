"""What the contracts planner makes of questions to the shop, beyond those of the demonstration."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
from shop_support import SHOP

from agents.decorator import SPEC_ATTRIBUTE
from agents.registry import Registry
from examples.shop.questions import QUESTIONS
from planning.contracts_planner import ContractsPlanner
from planning.resolve import PlanLimits, resolve
from synthesis.template import fill


def planned(registry, text: str, **more) -> tuple[dict[str, dict], set[tuple[str, str]]]:
    """Return the inputs of each node, and the edges."""
    plan = resolve(ContractsPlanner(registry).plan(text, **more), registry, PlanLimits(), origin="planner")
    edges = {(before, node.id) for node in plan.nodes for before in node.depends_on}
    return {node.id: node.inputs for node in plan.nodes}, edges


@pytest.mark.parametrize(
    ("text", "nodes", "edges"),
    [
        ("Where is order 10175?", {"order_status"}, set()),
        ("Compare AC-BASKET-18 and AC-BASKET-20", {"compare_products"}, set()),
        ("Who bought the Niche Zero?", {"find_products", "buyers"}, {("find_products", "buyers")}),
        (
            "Tell me about the Baratza Encore",
            {"find_products", "product_details"},
            {("find_products", "product_details")},
        ),
        ("When will the Eureka Mignon be back?", {"find_products", "restock"}, {("find_products", "restock")}),
        (
            "Where is order 10231 and is the Linea Micra in stock?",
            {"order_status", "find_products", "stock"},
            {("find_products", "stock")},
        ),
        ("How much did we sell in September?", {"sales_figures"}, set()),
        ("Show me grinders under 250", {"find_products"}, set()),
        ("What are the three best rated grinders?", {"find_products"}, set()),
        ("Show me beans", {"find_products"}, set()),
        ("Show me tampers", {"find_products"}, set()),
        ("Is the DF64 available?", {"find_products", "stock"}, {("find_products", "stock")}),
        ("Which products should we reorder?", {"low_stock"}, set()),
    ],
)
def test_questions_a_new_user_may_ask_get_their_plan(shop_registry, text, nodes, edges):
    """No more agents than the question needs."""
    inputs, found_edges = planned(shop_registry, text)
    assert set(inputs) == nodes
    assert found_edges == edges


@pytest.mark.parametrize("text", ["and the price?", "what is the price?", "the price please"])
def test_a_question_about_the_price_does_not_set_it(shop_registry, text):
    """It was set to whatever amount had been told last, if that was a plausible price."""
    context = "user: margin of GR-NICHE-ZERO\nassistant: it brings 179.00 EUR and costs 699.00 EUR"
    assert planned(shop_registry, text, context=context)[0] == {"margin": {"sku": "GR-NICHE-ZERO"}}


def test_a_price_with_thousands_reaches_the_agent_whole(shop_registry):
    """The one write of the shop must not lose a digit on its way through the plan."""
    inputs, _ = planned(shop_registry, "Set the price of the Lagom P64 to 1,579.00")
    assert set(inputs) == {"find_products", "change_price"}
    assert inputs["change_price"]["new_price"] == "1,579.00"


def test_a_price_without_decimals_changes_nothing(shop_registry):
    """A number such as 64 or 600 may belong to a name."""
    plan = ContractsPlanner(shop_registry).plan("Set the price of the DF64 to 420")
    assert "change_price" not in {node.agent for node in plan.nodes or ()}


@pytest.mark.parametrize(
    ("text", "agent"), [("And what does it cost?", "margin"), ("When will it be back?", "restock")]
)
def test_a_question_may_lean_on_the_reply_before(shop_registry, text, agent):
    """Replies name the SKU, so "it" is known from the conversation."""
    said = "user: Is the ECM Synchronika in stock?\nassistant: ECM Synchronika (MA-ECM-SYNCHRONIKA) is sold out."
    assert planned(shop_registry, text, context=said) == ({agent: {"sku": "MA-ECM-SYNCHRONIKA"}}, set())


def test_replies_about_one_product_name_its_sku(shop_registry):
    """That is what the question after it leans on."""
    for spec in shop_registry:
        fields = spec.contract.output_schema.get("properties", {})
        if spec.reply != "{text}" and {"sku", "title"} <= set(fields) and "skus" not in fields:
            assert "({sku})" in spec.reply


def test_every_sentence_names_fields_its_agent_gives(shop_registry):
    """A missing one would show as generic words."""
    for spec in shop_registry:
        fields = dict.fromkeys(spec.contract.output_schema["properties"], 1)
        assert "{" not in fill(spec.reply, fields)


def test_the_demonstration_shows_what_there_is(shop_registry):
    """At least eight questions; every agent takes part; one of them writes, and one crashes and comes back."""
    assert len(QUESTIONS) >= 8
    shown = {agent for question in QUESTIONS for agent in question.agents}
    assert shown == set(shop_registry.names())
    assert "restock" in shown
    assert "write" in {shop_registry.get(agent).effects for agent in shown}


def test_the_page_lists_every_agent(shop_registry):
    """README.md and the code are the same shop."""
    page = (SHOP / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(shop_registry.names())


def test_the_agent_of_the_page_works_when_it_is_added(shop_registry, tmp_path, monkeypatch):
    """Copied from README.md, it is planned for and answers."""
    page = (SHOP / "README.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "agents_of_the_page.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("agents_of_the_page")
    spec = getattr(module.postage, SPEC_ATTRIBUTE)
    question = page.split('ask "')[1].split('"')[0]
    inputs, edges = planned(Registry([*shop_registry, spec]), question)
    assert set(inputs) == {"find_products", "postage"}
    assert edges == {("find_products", "postage")}
    assert fill(spec.reply, module.postage("MA-FLAIR-58").model_dump()) == "The postage of Flair 58 is 7.78 EUR"
