"""The contracts planner derives plans from what agents say of themselves, and always one that can be run."""

from __future__ import annotations

import time
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_agents import SHOP as SHOP_AGENTS
from planning_agents import Level, Sku, registry_of, shop
from pydantic import Field

from agents import agent
from agents.registry import Registry
from messages.plan import Plan
from planning.contracts_planner import ContractsPlanner
from planning.resolve import PlanLimits, resolve

SHOP = shop()
PLANNER = ContractsPlanner(SHOP)


def planned(text: str, planner: ContractsPlanner = PLANNER, **options: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    plan = planner.plan(text, **options)
    assert plan.nodes is not None, plan.answer
    return {node.id: (node.agent, node.inputs) for node in plan.nodes}


def test_an_input_is_taken_from_the_text_by_its_pattern():
    assert planned("how many of AB-12 are in stock?") == {"stock": ("stock", {"sku": "AB-12"})}
    assert planned("stock of AB-12, please.")["stock"][1] == {"sku": "AB-12"}


def test_a_pattern_matches_whole_words_only():
    assert "stock" not in str(PLANNER.plan("stock of xAB-12").nodes or ()) or planned("stock of xAB-12")["stock"][
        1
    ] != {"sku": "AB-12"}


def test_a_list_gets_all_matches_once_each():
    assert planned("compare AB-1 with AB-2 and AB-1") == {"compare": ("compare", {"skus": ["AB-1", "AB-2"]})}


def test_more_matches_than_a_list_takes_are_not_forced_into_it():
    plan = PLANNER.plan("compare AB-1 AB-2 AB-3 AB-4 AB-5")
    assert all(node.agent != "compare" for node in plan.nodes or ())


def test_several_matches_for_one_input_become_several_nodes():
    found = planned("how many of AB-1 and AB-2 are in stock?")
    assert found == {"stock": ("stock", {"sku": "AB-1"}), "stock_2": ("stock", {"sku": "AB-2"})}


def test_message_text_needs_no_input():
    assert planned("search for a grinder") == {"find_products": ("find_products", {})}


def test_the_user_is_known():
    assert planned("list my orders", user_id="u1") == {"orders": ("orders", {"user_id": "u1"})}
    assert PLANNER.plan("list my orders").answer is not None


def test_a_follow_up_that_names_nothing_means_what_was_mentioned_last():
    context = "user: stock of AB-1?\nassistant: 3.\nuser: and AB-2?\nassistant: none."
    assert planned("and what does it cost?", context=context) == {"price": ("price", {"sku": "AB-2"})}
    assert planned("what does AB-9 cost?", context=context)["price"][1] == {"sku": "AB-9"}


def test_a_missing_input_comes_from_a_search_which_the_others_wait_for_in_parallel():
    found = planned("what does the profitec go cost and is it in stock?")
    assert set(found) == {"find_products", "stock", "price"}
    for name in ("stock", "price"):
        assert found[name][1] == {"sku": {"$from": "find_products.products.0.sku"}}


Amount = Annotated[str, Field(pattern=r"^\d+\.\d\d$", description="an amount")]


@agent(effects="write", examples=["set the price to 10.00"])
def change_price(sku: Sku, new_price: Amount) -> Level:
    """Set the price of one product."""


@agent(effects="write", examples=["reprice it"])
def reprice(sku: Sku, amount: Amount) -> Level:
    """Reprice one product."""


def test_a_question_that_an_agent_which_only_reads_answers_changes_nothing():
    """The name of the one that writes spoke louder than the example of the other."""

    @agent(examples=["what is the price?"])
    def margin(sku: Sku) -> float:
        """Price of one product, and what is left of it."""

    others = [function for function in SHOP_AGENTS if function.__name__ != "price"]
    planner = ContractsPlanner(registry_of(*others, margin, change_price))
    context = "user: margin of AB-1?\nassistant: it costs 12.00 and brings 3.00"
    assert planned("and what is the price?", planner, context=context) == {"margin": ("margin", {"sku": "AB-1"})}
    assert planned("the price of AB-2", planner) == {"margin": ("margin", {"sku": "AB-2"})}
    changed = {"sku": "AB-2", "new_price": "9.00"}
    assert planned("set the price of AB-2 to 9.00", planner) == {"change_price": ("change_price", changed)}


def test_one_thing_that_is_to_be_changed_may_be_remembered_but_not_what_it_is_changed_to():
    """A price that was merely told became the new one."""
    planner = ContractsPlanner(registry_of(*SHOP_AGENTS, reprice))
    context = "user: price of AB-1?\nassistant: 12.00"
    assert planned("reserve it", planner, context=context) == {"reserve": ("reserve", {"sku": "AB-1"})}
    plan = planner.plan("reprice it", context=context)
    assert plan.nodes is None
    assert str(plan.answer).startswith("To answer this I need to know: amount (an amount).")


def test_an_agent_that_writes_is_used_when_asked_for_and_never_in_passing():
    assert planned("reserve AB-1") == {"reserve": ("reserve", {"sku": "AB-1"})}

    @agent
    def units_report(units: int) -> str:
        """Report on units."""

    # invoice would give `units`, but writes; stock gives them too, and needs a sku, which a search finds.
    agents_used = {
        agent
        for agent, _ in planned(
            "units report", ContractsPlanner(Registry([*SHOP, units_report.__agent_spec__]))
        ).values()
    }
    assert agents_used == {"units_report", "stock", "find_products"}


def test_nothing_that_fits_gives_an_answer_that_helps():
    answer = PLANNER.plan("tell me a joke about penguins").answer
    assert answer is not None and '"what does it cost?"' in answer
    assert "no agents here" in str(ContractsPlanner(Registry()).plan("hi").answer)
    for empty in ("", "   ", "???", "\ud800"):
        assert PLANNER.plan(empty).answer is not None


def test_what_failed_before_is_not_asked_again():
    text = "how many of AB-1 and AB-2 are in stock, and what do they cost?"
    assert {agent for agent, _ in planned(text).values()} == {"stock", "price"}
    assert {agent for agent, _ in planned(text, failed=["stock_2"]).values()} == {"price"}


def test_the_same_message_gives_the_same_plan():
    text = "what does the profitec go cost and is it in stock?"
    assert PLANNER.plan(text) == ContractsPlanner(shop()).plan(text)


def test_contracts_that_feed_each_other_in_circles_come_to_an_end():
    class Out(Level):
        """Gives everything."""

        f0: int
        f1: int
        f2: int

    def first(f1: int, f2: int) -> Out:
        """Wheel turning first."""

    def second(f0: int, f2: int) -> Out:
        """Wheel turning second."""

    def third(f0: int, f1: int) -> Out:
        """Wheel turning third."""

    functions = [first, second, third]
    for function in functions:
        function.__annotations__["return"] = Out
    assert ContractsPlanner(registry_of(*functions)).plan("first wheel turning").answer is not None


def test_many_agents_that_could_feed_each_other_do_not_take_forever():
    def wheel(number: int) -> Any:
        def turn(value: int, other: int) -> dict[str, int]:
            """Turn the wheel."""

        turn.__name__ = turn.__qualname__ = f"wheel_{number}"
        turn.__annotations__["return"] = Annotated[Wheel, Field()]
        return turn

    began = time.monotonic()
    planner = ContractsPlanner(registry_of(*[wheel(number) for number in range(25)]))
    assert planner.plan("turn wheel 1").answer is not None
    assert time.monotonic() - began < 20


class Wheel(Level):
    """Gives what the others want."""

    value: int
    other: int


def test_what_was_placed_for_a_source_that_does_not_work_out_is_taken_back():
    class Half(Level):
        """Gives one of two."""

        left: int

    class Whole(Level):
        """Gives what is wanted."""

        wanted: int

    def source_half() -> Half:
        """Give the left one."""

    def combine(left: int, right: int) -> Whole:
        """Join both."""

    def wish(wanted: int) -> str:
        """Fulfil a wish."""

    for function, kind in ((source_half, Half), (combine, Whole)):
        function.__annotations__["return"] = kind
    plan = ContractsPlanner(registry_of(source_half, combine, wish)).plan("fulfil my wish")
    assert plan.answer is not None


def test_values_that_break_the_rest_of_a_contract_are_not_taken():
    @agent
    def short(code: Annotated[str, Field(pattern=r"^[A-Z]+-\d+$", max_length=4)]) -> str:
        """Look up a short code."""

    planner = ContractsPlanner(registry_of(short))
    assert planned("look up short code AB-1", planner)["short"][1] == {"code": "AB-1"}
    assert planner.plan("look up short code ABCDEF-1").answer is not None


def test_a_pattern_may_begin_with_flags():
    @agent
    def colour(code: Annotated[str, Field(pattern=r"(?i)^#[a-f]{3}$")]) -> str:
        """Name a colour."""

    # a leading '#' is no word character, so only the end is held to a word
    assert planned("name colour #aBc", ContractsPlanner(registry_of(colour)))["colour"][1] == {"code": "#aBc"}


def test_a_user_id_of_another_shape_is_not_taken():
    @agent
    def letters(user_id: Annotated[str, Field(pattern=r"^\d+$")]) -> str:
        """Letters of a customer."""

    planner = ContractsPlanner(registry_of(letters))
    assert planned("letters", planner, user_id="12")["letters"][1] == {"user_id": "12"}
    assert planner.plan("letters", user_id="u1").answer is not None


def test_node_ids_stay_unique_and_valid_whatever_agents_are_called():
    def make(name: str) -> Any:
        @agent(name=name)
        def look(sku: Sku) -> str:
            """Look something up."""

        return look

    long = "shop." + "x" * 52
    registry = registry_of(make(f"{long}_apple"), make(f"{long}_pear"))
    plan = ContractsPlanner(registry).plan("apple and pear AB-1 AB-2")
    assert plan.nodes is not None and len({node.agent for node in plan.nodes}) == 2
    assert len(resolve(plan, registry, PlanLimits(max_nodes=100), origin="planner").nodes) == 4


def test_only_an_agent_that_writes_could_tell_and_it_is_not_asked():
    @agent
    def report(units: int) -> str:
        """Report on units."""

    planner = ContractsPlanner(Registry([SHOP.get("invoice"), report.__agent_spec__]))
    assert planner.plan("report on units", user_id="u1").answer is not None


MESSAGE = "stock price cost find search compare order reserve invoice AB-1 AB-2 CD-X9 - ab-1 AB-- profitec my many 5 ?"
words = st.sampled_from(MESSAGE.split())


@given(
    st.lists(words, max_size=9).map(" ".join) | st.text(max_size=30),
    st.sampled_from([None, "u1", "\ud800"]),
    st.text(max_size=20) | st.just("AB-7"),
)
def test_every_plan_can_be_run(text, user_id, context):
    plan = PLANNER.plan(text, user_id=user_id, context=context)
    assert isinstance(plan, Plan)
    resolved = resolve(plan, SHOP, PlanLimits(max_nodes=1000), origin="planner")
    assert resolved.nodes or resolved.answer


@pytest.mark.parametrize("pattern", ["^(", "[", r"^a\$$", "^$", "", r"^(?<x>a)$"])
def test_patterns_that_python_reads_otherwise_do_no_harm(pattern):
    from planning.in_text import occurrences

    assert all(isinstance(found, str) for found in occurrences(pattern, "a b AB-1 (a"))
