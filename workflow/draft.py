"""A state in the making: what an event touches is copied once, and then changed in place.

A step has several events, and each changes a node, so a request and a state: copying all three for each of them was a
fifth of what the core took. Nobody but the step sees a draft; what leaves it is never changed again.
"""

from __future__ import annotations

from typing import Any

from workflow.state import Node, Request, State


class Draft:
    """Use `state` to read; change it only through the draft."""

    __slots__ = ("_nodes", "_request", "state")

    def __init__(self, state: State) -> None:
        self.state = state.changed()
        self._request: Request | None = None
        self._nodes: dict[str, Node] = {}

    def change(self, **fields: Any) -> None:
        """Change fields of the state itself."""
        self.state.__dict__.update(fields)

    def begin(self, request: Request) -> None:
        """Let a request run that nobody else has seen."""
        self.state.__dict__["request"] = self._request = request
        self._nodes = {}

    def change_request(self, **fields: Any) -> None:
        """Change fields of the running request, if there is one."""
        request = self._own()
        if request is not None:
            request.__dict__.update(fields)

    def change_node(self, node_id: str, **fields: Any) -> None:
        """Change fields of a node of the running request, if it is there."""
        request = self._own()
        if request is None:
            return
        node = self._nodes.get(node_id)
        if node is None or request.nodes.get(node_id) is not node:
            found = request.nodes.get(node_id)
            if found is None:
                return
            node = self._nodes[node_id] = request.nodes[node_id] = found.changed()
        node.__dict__.update(fields)

    def _own(self) -> Request | None:
        request = self.state.request
        if request is None or request is self._request:
            return request
        self.begin(request.changed(nodes=dict(request.nodes)))
        return self._request
