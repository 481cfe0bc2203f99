"""An exception leaves its process as a little plain data, whatever it holds and whatever it does when looked at."""

from __future__ import annotations

import tracemalloc

import pytest

from actors.remote_error import RemoteError
from agents.exception_facts import facts
from messages.wire import pack
from supervision.errors import classify


def _said(error):
    told = facts(error)
    assert len(pack(told)) < 100_000
    return classify(RemoteError(told))


@pytest.mark.parametrize(
    "wrap",
    [
        ValueError,
        KeyError,
        lambda text: ValueError(text.encode()),
        lambda text: ValueError(text, 1),
        lambda text: ValueError([text]),
        lambda text: ExceptionGroup(text, [ValueError("x")]),
    ],
)
def test_a_message_of_100_mb_is_told_without_copying_it(wrap):
    error = wrap("x" * 100_000_000)
    tracemalloc.start()
    told = facts(error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 100 < len(told["text"]) <= 501
    assert peak < 1_000_000


def _nested(depth, width):
    error = ValueError("innermost")
    for _ in range(depth):
        error = ExceptionGroup("group", [error] * width)
    return error


@pytest.mark.parametrize(("depth", "width"), [(3, 2), (900, 1), (5000, 1), (60, 20)])
def test_groups_that_nest_deeply_and_share_members_are_told_in_short(depth, width):
    found = _said(_nested(depth, width))
    assert found == classify(_nested(depth, width))
    assert "innermost" in found.message


def test_the_worst_of_very_many_members_is_told():
    group = ExceptionGroup("many", [*(ConnectionError(str(n)) for n in range(500)), ValueError("the worst")])
    assert _said(group).error_class == classify(group).error_class == "permanent"


def test_a_type_with_very_many_bases_is_told_in_short():
    kind = ConnectionError
    for number in range(300):
        kind = type(f"E{number}" + "x" * 600, (kind,), {})
    assert _said(kind("lost")).error_class == "transient"


def _of_hostile_type():
    class HostileType(type):
        def __getattribute__(cls, name):
            raise RuntimeError(name)

    return HostileType("Harmful", (Exception,), {})("x")


def _disguised():
    class Harmful(Exception):
        @property
        def __class__(self):
            raise SystemExit(1)

    return Harmful("x")


@pytest.mark.parametrize("make", [_of_hostile_type, _disguised])
def test_an_exception_that_hides_its_type_is_told_and_classed_all_the_same(make):
    found = classify(make())
    assert (found.type, found.error_class, found.once) == ("Harmful", "transient", True)
    assert _said(make()) == found
