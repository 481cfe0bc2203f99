"""Daemons with a defect, for proving that the crash test sees it. Arguments: the defect, then the victim's own."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from chaos import killing_store, victim
from conversation import journal
from persistence.contract import Committed
from workflow.state import NodeStatus


class Hasty:
    """Says that a step is durable, and writes it a moment later."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._later: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self, batch: Any, rows: Any = ()) -> list[Any]:
        self._later.put((batch, rows))
        return [Committed(append.conversation_id, append.last_seq) for append in batch]

    def _write(self) -> None:
        while True:
            threading.Event().wait(0.03)
            self._inner.commit(*self._later.get())


def acknowledge_before_commit() -> None:
    wrap = killing_store.KillingStore.__init__

    def hastily(self: Any, inner: Any, kill: Any) -> None:
        wrap(self, Hasty(inner), kill)

    killing_store.KillingStore.__init__ = hastily


def run_finished_nodes_again() -> None:
    wake = journal.wake

    def forgetfully(loaded: Any) -> Any:
        woken = wake(loaded)
        request = woken.state.request
        if request is None:
            return woken
        nodes = {
            name: replace(node, status=NodeStatus.RUNNING) if node.status is NodeStatus.SUCCEEDED else node
            for name, node in request.nodes.items()
        }
        return replace(woken, state=replace(woken.state, request=replace(request, nodes=nodes)))

    journal.wake = forgetfully


if __name__ == "__main__":
    {"hasty": acknowledge_before_commit, "forgetful": run_finished_nodes_again}[sys.argv[1]]()
    sys.exit(victim.main(sys.argv[2:]))
