"""A reply worded in the step that makes it due, by a synthesizer that neither waits nor has effects.

It saves an actor, a hop to another thread and a commit for each request (docs/performance.md). A synthesizer that fails
here is asked again by an actor of its own, where supervision sees what it raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from messages.events import Journaled
from messages.synthesis import Synthesize, Synthesized
from workflow.decide import take
from workflow.state import State
from workflow.step import Limits
from workflow.wanted import synthesize


def compose(
    state: State, write: Callable[[Synthesize], Any], now: int, limits: Limits
) -> tuple[list[Journaled], State]:
    """Return the events of the reply and the state after them; none, and the same state, when it cannot be worded."""
    request = state.request
    if request is None or request.synthesis.failures:
        return [], state
    try:
        text = write(synthesize(state, ""))
    except Exception:  # noqa: BLE001  # the same error comes again from the actor, and is judged there
        return [], state
    return take(state, Synthesized(request.request_id, 1, text), now, limits)
