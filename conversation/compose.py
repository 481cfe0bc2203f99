"""A reply worded in the step that makes it due, by a synthesizer that neither waits nor has effects.

It saves an actor, a hop to another thread and a commit for each request (docs/performance.md). A synthesizer that fails
here is asked again by an actor of its own, where supervision sees what it raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from messages.synthesis import Synthesize, Synthesized
from workflow.decide import tell
from workflow.step import Step
from workflow.wanted import synthesize


def compose(step: Step, write: Callable[[Synthesize], Any]) -> None:
    """Add the events of the reply to a step, or nothing when it cannot be worded."""
    request = step.state.request
    if request is None or request.synthesis.failures:
        return
    try:
        text = write(synthesize(step.state, ""))
    except Exception:  # noqa: BLE001  # the same error comes again from the actor, and is judged there
        return
    tell(step, Synthesized(request.request_id, 1, text))
