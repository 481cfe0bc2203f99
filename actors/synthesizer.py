"""The synthesizer actor: one attempt at putting results into words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from actors.attempt import AttemptActor
from actors.call import Call
from actors.execution import Execution
from messages.synthesis import Synthesize, Synthesized

Synthesis = Callable[[Synthesize], Any]
"""Writes the reply's text, or returns a coroutine of it; may block."""


class SynthesizerActor(AttemptActor):
    """Answers one `Synthesize` with `Synthesized`."""

    kind: ClassVar[str] = "synthesizer"

    def __init__(self, execution: Execution, synthesis: Synthesis, timeout: float) -> None:
        super().__init__()
        self._execution = execution
        self._synthesis = synthesis
        self._timeout = timeout

    def begin(self, message: Any) -> Call:
        """Start writing."""
        assert isinstance(message, Synthesize)

        def write() -> Any:
            return self._synthesis(message)

        return self._execution.run_function(write, timeout=self._timeout, done=self.finished, name=self.kind)

    def succeed(self, message: Any, value: Any) -> None:
        """Tell the parent."""
        self.tell_parent(Synthesized(message.request_id, message.attempt, value))
