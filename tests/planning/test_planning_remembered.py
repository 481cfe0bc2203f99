"""A plan that was found sound is not checked again, until agents or limits are others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning_agents import shop

from messages.plan import Plan
from planning import remembered
from planning.remembered import RememberedPlans
from planning.resolve import InvalidPlan, PlanLimits, resolve

LIMITS = PlanLimits(max_nodes=5, timeout=60.0, retries=3)
SHOP = shop()


def plan(sku="AB-1", node="a"):
    return Plan.model_validate({"nodes": [{"id": node, "agent": "stock", "inputs": {"sku": sku}}]})


@pytest.fixture
def checks(monkeypatch):
    """The plans that were really checked."""
    seen = []

    def check(given, *args, **kwargs):
        seen.append(given)
        return resolve(given, *args, **kwargs)

    monkeypatch.setattr(remembered, "resolve", check)
    return seen


def test_the_same_plan_is_checked_once_and_another_one_for_itself(checks):
    plans = RememberedPlans()
    first = plans.resolve(plan(), SHOP, LIMITS)
    assert first == resolve(plan(), SHOP, LIMITS, origin="client")
    assert plans.resolve(plan(), SHOP, LIMITS) is first
    assert plans.resolve(plan("AB-2"), SHOP, LIMITS).nodes[0].inputs == {"sku": "AB-2"}
    assert len(checks) == 2


def test_other_agents_or_limits_check_everything_again(checks):
    plans = RememberedPlans()
    plans.resolve(plan(), SHOP, LIMITS)
    assert plans.resolve(plan(), SHOP, replace(LIMITS, timeout=7.0)).nodes[0].timeout == 7.0
    plans.resolve(plan(), shop(), LIMITS)
    assert len(checks) == 3


def test_what_was_refused_is_refused_again(checks):
    plans = RememberedPlans()
    for _ in range(2):
        with pytest.raises(InvalidPlan):
            plans.resolve(plan(sku=3), SHOP, LIMITS)
    assert len(checks) == 2


def test_a_bounded_number_of_plans_of_a_bounded_size_is_remembered(checks):
    plans = RememberedPlans()
    for number in range(600):
        plans.resolve(plan(node=f"n{number}"), SHOP, LIMITS)
    plans.resolve(plan(node="n599"), SHOP, LIMITS)
    assert len(checks) == 600
    plans.resolve(plan(node="n0"), SHOP, LIMITS)
    assert len(checks) == 601, "the oldest made room"
    long = Plan.model_validate(
        {"nodes": [{"id": "a", "agent": "stock", "inputs": {"sku": "AB-1"}, "task": "x" * 10_000}]}
    )
    for _ in range(2):
        plans.resolve(long, SHOP, LIMITS)
    assert len(checks) == 603
