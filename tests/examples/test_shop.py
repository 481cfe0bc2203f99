"""The sample shop: its data, its agents called as plain functions, and the questions from plan to reply."""

from __future__ import annotations

import csv
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from agents import Context, PermanentError
from agents.call import arguments, finish
from agents.registry import Registry
from examples.shop import agents as shop
from examples.shop import make_data
from examples.shop.questions import QUESTIONS
from examples.shop.store import DATA, database
from messages.agent import RunNode
from messages.synthesis import Outcome, Synthesize
from planning.contracts_planner import ContractsPlanner
from planning.resolve import PlanLimits, resolve
from synthesis.template import TemplateSynthesizer
from workflow.graph import bind_inputs


@pytest.fixture(autouse=True)
def own_database(tmp_path, monkeypatch):
    """Every test has its own shop, and no artificial delay."""
    monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / "shop.db"))
    monkeypatch.setenv("SHOP_DELAY", "0")


@pytest.fixture(scope="module")
def registry():
    return Registry.from_config(["examples.shop.agents"], {})


def table(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def context(**fields: Any) -> Context:
    return Context(**{"attempt": 2, **fields})


# Data


def test_the_committed_data_is_what_the_script_makes():
    """Run `python -m examples.shop.make_data` after a change."""
    for name, content in make_data.make().items():
        assert (DATA / name).read_text(encoding="utf-8") == content, name


def test_the_data_holds_together():
    """About 60 products with unique SKUs; everything else refers to them; nobody sells below cost."""
    products = {row["sku"]: row for row in table("products")}
    assert 55 <= len(products) == len(table("products"))
    assert all(float(row["price"]) > float(row["cost"]) > 0 for row in products.values())
    for name in ("stock", "order_lines", "reviews"):
        assert {row["sku"] for row in table(name)} <= set(products)
    assert {row["order_id"] for row in table("order_lines")} == {row["order_id"] for row in table("orders")}


def test_many_threads_may_begin_at_once():
    """The database is built aside and moved into place."""
    with ThreadPoolExecutor(8) as pool:
        totals = list(pool.map(lambda _: shop.stock("MA-LINEA-MICRA").total, range(16)))
    assert set(totals) == {6}
    assert [path.name for path in database().parent.iterdir()] == ["shop.db"]


# Agents


def test_stock_and_margin_are_those_of_the_files():
    """Every product, computed a second time from the CSV."""
    for row in table("products"):
        units = sum(int(r["units"]) for r in table("stock") if r["sku"] == row["sku"])
        assert shop.stock(row["sku"]).total == units
        margin = anyio.run(shop.margin, row["sku"])
        assert margin.margin == pytest.approx(float(row["price"]) - float(row["cost"]))


@pytest.mark.parametrize(
    ("words", "sku"),
    [
        ("Is the Linea Micra in stock?", "MA-LINEA-MICRA"),
        ("do you have the profitec go", "MA-PROFITEC-GO"),
        ("the cheapest grinder please", "GR-KINGRINDER-K6"),
        ("most expensive machine", "MA-LINEA-MINI"),
        ("something to stir clumps out of the coffee bed", "AC-WDT-TOOL"),
    ],
)
def test_products_are_found_by_name_rank_and_description(words, sku):
    """The best match comes first."""
    assert shop.find_products(words).sku == sku


def test_a_search_without_a_match_says_so():
    """Nothing is made up."""
    with pytest.raises(PermanentError, match="no product"):
        shop.find_products("zzz qqq")


def test_the_figures_of_a_month_are_those_of_the_files():
    """Returned orders do not count."""
    sales = shop.sales_figures("How much did we sell last month?")
    prices = {row["sku"]: float(row["price"]) for row in table("products")}
    orders = {
        row["order_id"]
        for row in table("orders")
        if sales.first <= row["date"] <= sales.last and row["status"] != "returned"
    }
    lines = [row for row in table("order_lines") if row["order_id"] in orders]
    assert sales.units == sum(int(row["units"]) for row in lines)
    assert sales.revenue == pytest.approx(sum(int(row["units"]) * prices[row["sku"]] for row in lines))


def test_the_supplier_fails_first_and_then_answers(monkeypatch):
    """Unreliable on purpose, the same way each time for the same call."""

    async def ask(attempt: int) -> Any:
        return await shop.restock("GR-EUREKA-MIGNON", context(attempt=attempt))

    with pytest.raises(ConnectionError):
        anyio.run(ask, 1)
    assert anyio.run(ask, 2).back_on == "2026-11-19"
    monkeypatch.setenv("SHOP_FAILURE_RATE", "0")
    assert anyio.run(ask, 1).back_on == "2026-11-19"


def test_a_price_changes_once_per_key_however_often_and_by_how_many():
    """An attempt that is repeated after a crash changes nothing a second time."""
    ctx = context(idempotency_key="r1:change_price:2")
    with ThreadPoolExecutor(6) as pool:
        changes = list(pool.map(lambda _: shop.change_price("GR-NICHE-ZERO", "679.00", ctx), range(6)))
    assert {(c.old_price, c.new_price) for c in changes} == {(699.0, 679.0)}
    assert sum(not c.applied_before for c in changes) == 1
    again = shop.change_price("GR-NICHE-ZERO", "650.00", context(idempotency_key="another"))
    assert again.old_price == 679.0


# Questions


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text[:40])
def test_a_question_leads_to_its_plan_and_a_reply_with_the_right_facts(registry, question, monkeypatch):
    """Planned by contracts, run in order, worded by the template."""
    monkeypatch.setenv("SHOP_FAILURE_RATE", "0")
    written = ContractsPlanner(registry).plan(question.text)
    assert written.nodes is not None
    plan = resolve(written, registry, PlanLimits(), origin="planner")
    assert {node.agent for node in plan.nodes} == set(question.agents)
    edges = {(dep, node.id) for node in plan.nodes for dep in node.depends_on}
    assert edges == set(question.edges)
    reply = TemplateSynthesizer(registry).write(_run(registry, plan, question.text))
    for fact in question.facts:
        assert fact in reply


def _run(registry: Registry, plan: Any, text: str) -> Synthesize:
    results: dict[str, Any] = {}
    outcomes = []
    for node in plan.nodes:
        spec = registry.get(node.agent)
        inputs = bind_inputs(node.inputs, results)
        call = RunNode("c", "r", node.id, node.agent, 1, inputs, 5.0, text, None, "", "", f"r:{node.id}")
        given = arguments(spec, call, progress=lambda _text: None, deadline=float("inf"))
        value = anyio.run(lambda f=spec.function, g=given: f(**g)) if spec.is_async else spec.function(**given)
        assert not inspect.iscoroutine(value)
        results[node.id], _body = finish(spec, value, 1 << 20)
        outcomes.append(Outcome(node.id, node.agent, node.task, node.inputs, results[node.id], succeeded=True))
    return Synthesize("c", "r", 1, text, "", tuple(outcomes), ())
