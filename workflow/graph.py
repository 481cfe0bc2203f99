"""The plan as a graph: what depends on what, which nodes may start, and every problem a plan has.

`{"$from": "node.path"}` anywhere in a node's inputs stands for a part of another node's result and implies the
dependency. Order and cycles are graphlib's; the joins are ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from messages.plan import Join, PlanNode

REFERENCE_KEY: Final = "$from"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a plan: where, and what would be right."""

    where: str
    problem: str


class UnboundReference(Exception):
    """A `$from` points at something the result does not have."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"$from {reference!r}: {reason}")
        self.reference = reference
        self.reason = reason


class Unavailable(UnboundReference):
    """A `$from` points at a node that did not finish; possible only with `any` and quorum joins."""


def references(value: Any) -> list[str]:
    """Return every reference (`"node.path"`) inside `value`, in order, once each."""
    return list(dict.fromkeys(ref for ref in _walk(value) if isinstance(ref, str)))


def source_of(reference: str) -> str:
    """Return the id of the node a reference points into."""
    return reference.partition(".")[0]


def dependencies(node: PlanNode) -> tuple[str, ...]:
    """Return the nodes this one waits for: those its inputs refer to, then those named by `after`."""
    return tuple(dict.fromkeys([*(source_of(ref) for ref in references(node.inputs)), *node.after]))


def need(node: PlanNode, deps: Collection[str]) -> int:
    """Return how many of `deps` must succeed before the node starts."""
    if not deps:
        return 0
    if node.join == "all":
        return len(deps)
    if node.join == "any":
        return 1
    return _quorum(node.join)


def bind(value: Any, results: dict[str, Any]) -> Any:
    """Return `value` with every reference replaced by what it points at.

    Raises `UnboundReference`, which names the reference and what is missing; `Unavailable` when the node itself has
    no result.
    """
    if isinstance(value, dict):
        if REFERENCE_KEY in value:
            return _follow(value[REFERENCE_KEY], results)
        return {key: bind(part, results) for key, part in value.items()}
    if isinstance(value, list):
        return [bind(part, results) for part in value]
    return value


def bind_inputs(inputs: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Bind the inputs of a node about to start.

    An input whose source never finished (possible when its join needs fewer than all) is left out, so that the
    parameter's default applies; a parameter without one is then reported by the contract.
    """
    bound: dict[str, Any] = {}
    for name, value in inputs.items():
        try:
            bound[name] = bind(value, results)
        except Unavailable:
            continue
    return bound


def structure_problems(nodes: Sequence[PlanNode], *, finished: Collection[str] = ()) -> list[Problem]:
    """Return everything wrong with the shape of a plan, all at once; an empty list means it can be run.

    `finished` are nodes of an earlier plan whose results this one may refer to.
    """
    problems: list[Problem] = []
    if not nodes:
        return [Problem("nodes", "a plan needs at least one node, or an answer instead of nodes")]
    known = {node.id for node in nodes} | set(finished)
    seen: set[str] = set()
    for node in nodes:
        if node.id in seen:
            problems.append(Problem(f"nodes.{node.id}", "this id is used by more than one node"))
        seen.add(node.id)
        problems.extend(_node_problems(node, known))
    problems.extend(_cycles(nodes))
    return problems


# Walking


def _walk(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if REFERENCE_KEY in value:
            yield value[REFERENCE_KEY]
            return
        for part in value.values():
            yield from _walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from _walk(part)


def _malformed(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if REFERENCE_KEY in value:
            reference = value[REFERENCE_KEY]
            if not isinstance(reference, str) or not reference or not all(reference.split(".")):
                yield f'{REFERENCE_KEY} takes "node" or "node.path", not {reference!r}'
            elif len(value) > 1:
                yield f"an object with {REFERENCE_KEY} has no other keys"
            return
        for part in value.values():
            yield from _malformed(part)
    elif isinstance(value, list):
        for part in value:
            yield from _malformed(part)


# Following


def _follow(reference: str, results: dict[str, Any]) -> Any:
    source, *path = reference.split(".")
    if source not in results:
        raise Unavailable(reference, f"node {source!r} has no result")
    value = results[source]
    walked = source
    for step in path:
        value = _step(reference, walked, value, step)
        walked = f"{walked}.{step}"
    return value


def _step(reference: str, walked: str, value: Any, step: str) -> Any:
    if isinstance(value, dict):
        if step in value:
            return value[step]
        has = ", ".join(sorted(map(str, value))[:8]) or "nothing"
        raise UnboundReference(reference, f"{walked} has no {step!r}; it has {has}")
    if isinstance(value, list):
        if step.isascii() and step.isdigit() and int(step) < len(value):
            return value[int(step)]
        raise UnboundReference(reference, f"{walked} is a list of {len(value)}, which has no item {step!r}")
    raise UnboundReference(reference, f"{walked} is a {type(value).__name__}, which has no parts")


# Problems


def _node_problems(node: PlanNode, known: set[str]) -> Iterator[Problem]:
    where = f"nodes.{node.id}"
    for problem in _malformed(node.inputs):
        yield Problem(f"{where}.inputs", problem)
    deps = dependencies(node)
    for dep in deps:
        if dep == node.id:
            yield Problem(where, "a node cannot depend on itself")
        elif dep not in known:
            yield Problem(where, f"depends on {dep!r}, which is not in the plan")
    if isinstance(node.join, dict):
        quorum = node.join.get("quorum")
        if quorum is None:
            yield Problem(f"{where}.join", 'takes "all", "any" or {"quorum": n}')
        elif quorum > len(deps):
            yield Problem(f"{where}.join", f"a quorum of {quorum} can never be met by {len(deps)} dependencies")


def _quorum(join: Join) -> int:
    assert isinstance(join, dict)
    return join["quorum"]


def _cycles(nodes: Sequence[PlanNode]) -> Iterator[Problem]:
    graph = {node.id: {dep for dep in dependencies(node) if dep != node.id} for node in nodes}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        yield Problem("nodes", f"these nodes wait for each other: {cycle}")
