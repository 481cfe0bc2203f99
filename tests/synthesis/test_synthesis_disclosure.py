"""Nothing that was asked for is left unsaid: neither what is missing, nor which of several calls a result is of."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.registry import Registry
from messages.events import Missing
from messages.synthesis import Outcome, Synthesize
from synthesis.template import TemplateSynthesizer, fill, show

WRITER = TemplateSynthesizer(Registry())


def call(node: str, result: Any = None, *, agent: str = "stock", succeeded: bool = True, **inputs: Any) -> Outcome:
    return Outcome(node, agent, "", inputs, result, succeeded)


def write(*outcomes: Outcome, missing: tuple[Missing, ...] = ()) -> str:
    return WRITER.write(Synthesize("c", "r", 1, "?", "", outcomes, missing))


def gone(node: str, reason: str = "timed out", attempts: int = 3) -> Missing:
    return Missing(node=node, reason=reason, attempts=attempts)


def test_two_calls_of_one_agent_that_fail_alike_are_both_disclosed():
    said = write(
        call("a", succeeded=False, sku="AB-1"),
        call("b", succeeded=False, sku="AB-2"),
        missing=(gone("a"), gone("b")),
    )
    missing = "Missing: stock of sku {} after 3 attempts (timed out)."
    assert said == f"{missing.format('AB-1')} {missing.format('AB-2')}"


def test_results_of_several_calls_of_one_agent_say_which_is_which():
    said = write(call("a", 3, sku="AB-1"), call("b", 0, sku="AB-2"))
    assert said == "Stock of sku AB-1: 3. Stock of sku AB-2: 0."
    assert write(call("a", 3, sku="AB-1")) == "Stock: 3."


def test_what_fed_only_a_failure_is_said_itself():
    found = call("find", {"title": "Grinder"}, agent="find")
    failed = call("s", succeeded=False, sku={"$from": "find.title"})
    other = call("o", "shipped", agent="order")
    assert write(found, failed, other, missing=(gone("s"),)) == (
        "Find: title Grinder. Order: shipped. Missing: stock after 3 attempts (timed out)."
    )


def test_long_results_say_how_much_is_not_shown():
    assert show({f"k{i}": i for i in range(8)}) == "k0 0, k1 1, k2 2, k3 3, k4 4, k5 5, and 2 more"
    assert show({"a": 1}) == "a 1"


def test_a_number_beyond_every_float_is_shown_as_it_is():
    assert fill("{x:.2f}", {"x": 10**400}) == str(10**400)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=8),
    max_leaves=15,
)
names = st.sampled_from(["a", "b", "c", "planner"])


@given(
    st.lists(
        st.builds(
            Outcome, names, st.sampled_from(["stock", "price"]), st.just(""),
            st.dictionaries(st.sampled_from(["sku", "x"]), plain | st.just({"$from": "a.x"}), max_size=2),
            plain, st.booleans(),
        ),
        max_size=4, unique_by=lambda outcome: outcome.node,
    ),
    st.lists(st.builds(Missing, node=names, reason=st.text(max_size=9), attempts=st.integers(0, 5)), max_size=4),
)  # fmt: skip
def test_whatever_happened_there_is_a_reply_and_it_discloses_every_gap(outcomes, missing):
    said = write(*outcomes, missing=tuple(missing))
    assert said.count("Missing: ") >= len(missing)
    assert said or not (outcomes or missing) or not any(outcome.succeeded for outcome in outcomes)
