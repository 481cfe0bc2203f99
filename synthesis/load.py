"""The synthesizer that the configuration names: `template`, or a function of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.errors import ResultTooLarge
from agents.registry import Registry, load_function
from messages.events import Missing
from messages.synthesis import Outcome, Synthesize
from synthesis.template import TemplateSynthesizer


class NotAText(TypeError):
    """A synthesizer returned something else than a text."""

    error_class = "permanent"


@dataclass(frozen=True, slots=True)
class SynthesisContext:
    """What a synthesizer may know besides the message and the results."""

    conversation_id: str = "local"
    request_id: str = "local"
    context: str = ""
    """The conversation so far, within `max_context_tokens`."""
    outcomes: tuple[Outcome, ...] = ()
    """Every node in plan order, with its agent, inputs and result."""
    missing: tuple[Missing, ...] = ()
    """Branches the reply must disclose."""
    agents: Mapping[str, str] = field(default_factory=dict)
    """What each agent says it does, by name."""


class Synthesizer(Protocol):
    """Writes replies."""

    def write(self, order: Synthesize) -> Any:
        """Return the text, or a coroutine of it."""


class FunctionSynthesizer:
    """A synthesizer that is a function `(text, results, context) -> str`, sync or async."""

    def __init__(self, function: Callable[..., Any], registry: Registry, max_bytes: int) -> None:
        self._function = function
        self._registry = registry
        self._max_bytes = max_bytes

    def write(self, order: Synthesize) -> Any:
        """Ask the function; `results` are by node id."""
        results = {outcome.node: outcome.result for outcome in order.outcomes if outcome.succeeded}
        context = SynthesisContext(
            conversation_id=order.conversation_id,
            request_id=order.request_id,
            context=order.context,
            outcomes=order.outcomes,
            missing=order.missing,
            agents=self._registry.describe(),
        )
        answer = self._function(order.text, results, context)
        return _later(answer, self._max_bytes) if hasattr(answer, "__await__") else _text(answer, self._max_bytes)


def load_synthesizer(name: str, registry: Registry, max_bytes: int = 4 << 20) -> Synthesizer:
    """Return the synthesizer of that name; a function's texts may have so many bytes. Raises `AgentDefinitionError`."""
    if name == "template":
        return TemplateSynthesizer(registry)
    return FunctionSynthesizer(load_function(name, "synthesizer"), registry, max_bytes)


def _text(answer: Any, max_bytes: int) -> str:
    if not isinstance(answer, str):
        raise NotAText(f"the synthesizer returned {type(answer).__name__}; a reply is a text")
    if not answer:
        raise NotAText("the synthesizer returned an empty text")
    try:
        size = len(answer.encode())
    except UnicodeEncodeError as error:
        raise NotAText(f"the synthesizer's text is not valid Unicode: {error}") from None
    if size > max_bytes:
        raise ResultTooLarge(f"the synthesizer's text has {size} bytes; at most {max_bytes} are taken")
    return answer


async def _later(answer: Any, max_bytes: int) -> str:
    return _text(await answer, max_bytes)
