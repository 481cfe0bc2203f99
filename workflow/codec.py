"""The state as plain data and back, for snapshots.

Texts and results are not in it: they are stored once, beside the journal, and handed back in by whoever loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from workflow.state import LOST, Node, NodeStatus, Request, State

SCHEMA: Final = 1
"""Version of the plain form. A change of `State` that old snapshots do not fit needs a higher one and an upcaster."""

_STATE: Final[TypeAdapter[State]] = TypeAdapter(State)


class StateInvalid(ValueError):
    """This plain data is not a state of this version."""


def to_plain(state: State) -> dict[str, Any]:
    """Return the state as plain data, without texts and results."""
    if state.request is None and not state.queue:  # at the end of each turn: there is nothing to look into
        paused_from = None if state.paused_from is None else state.paused_from.value
        return {**state.__dict__, "phase": state.phase._value_, "paused_from": paused_from, "queue": []}
    request = None if state.request is None else _bare(state.request)
    bare = state.changed(request=request, queue=tuple(_bare(r) for r in state.queue))
    plain: dict[str, Any] = _STATE.dump_python(bare, mode="json", by_alias=True)
    return plain


def from_plain(plain: Mapping[str, Any], *, texts: Mapping[int, str], results: Mapping[tuple[str, str], Any]) -> State:
    """Return the state; texts by sequence number of their `message.accepted`, results by (request, node).

    A result that was recorded but is not there becomes `LOST`. Raises `StateInvalid`.
    """
    try:
        state = _STATE.validate_json(to_json(plain))  # strict JSON mode takes lists where we hold tuples
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise StateInvalid(f"{where}: {first['msg']}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise StateInvalid(f"it holds what no state holds: {error}") from None
    request = None if state.request is None else _full(state.request, texts, results)
    return state.changed(request=request, queue=tuple(_full(r, texts, results) for r in state.queue))


def _bare(request: Request) -> Request:
    nodes = {key: node.changed(result=None) for key, node in request.nodes.items()}
    return request.changed(text="", nodes=nodes)


def _full(request: Request, texts: Mapping[int, str], results: Mapping[tuple[str, str], Any]) -> Request:
    nodes = {key: _with_result(request.request_id, node, results) for key, node in request.nodes.items()}
    return request.changed(text=texts.get(request.accepted_seq, request.text), nodes=nodes)


def _with_result(request_id: str, node: Node, results: Mapping[tuple[str, str], Any]) -> Node:
    if node.status is not NodeStatus.SUCCEEDED:
        return node
    return node.changed(result=results.get((request_id, node.spec.id), LOST))
