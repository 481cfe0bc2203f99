"""The referee of circuit breakers: who may be called when, by docs/agents.md; it knows nothing of how that is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agents.errors import PermanentError
from messages.agent import NodeResult

if TYPE_CHECKING:
    from simulation.world import World

WINDOW: Final = 60.0
RESET: Final = 1.0
MAX_RESET: Final = 40.0


@dataclass
class _Agent:
    failed_at: list[float] = field(default_factory=list)
    """Counted failures since the last success."""
    until: float | None = None
    """While it is left alone, or tried out after that: when the first try may be made."""
    times: int = 0
    """How often it was left alone since it last answered well."""
    trying: object | None = None
    """The one call that tries it out."""
    news: int = 0
    """Changes so far: calls from before one say nothing about now."""


class LeftAlone:
    """Of one life of the daemon: breakers are kept in memory."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._agents: dict[str, _Agent] = {}
        self.patience = world.breaker_failures

    def entered(self, name: str) -> object:
        """Note a call; return what it is known by when it ends."""
        agent = self._agents.setdefault(name, _Agent())
        call = (agent.news, object())
        if agent.until is not None:
            early = agent.until - self._world.clock.now
            self._demand(early <= 0, f"{name} was called {early:.3f} s before it may be")
            self._demand(agent.trying is None, f"{name} is tried out by two calls at once")
            agent.trying = call
            self._world.saw("branch: an agent that was left alone is tried")
        return call

    def refused(self, name: str, seconds: float | None) -> None:
        """Note a refusal, and when the call is told to come again."""
        agent = self._agents.setdefault(name, _Agent())
        self._world.saw("branch: a call was refused, as its agent is left alone")
        if seconds is None:
            self._demand(False, f"{name} was refused without a word when to come again")
        elif agent.until is None:
            self._demand(False, f"{name} was refused although it is not left alone")
        elif agent.until > self._world.clock.now:
            wait = agent.until - self._world.clock.now
            self._demand(abs(seconds - wait) < 0.01, f"{name} is left alone for {wait:.3f} s, told were {seconds} s")
        else:
            self._demand(agent.trying is not None, f"{name} was refused although nobody tries it out")

    def ended(self, name: str, call: Any, outcome: NodeResult | BaseException | None) -> None:
        """Note how a call ended; None when it was given up."""
        agent, now = self._agents[name], self._world.clock.now
        if call[0] != agent.news and agent.trying is not call:
            return
        tried, says = agent.until is not None, _says(outcome)
        agent.trying = None
        if says == "good":
            if tried:
                self._world.saw("branch: an agent is no longer left alone")
                self._agents[name] = _Agent(news=agent.news + 1)
            agent.failed_at.clear()
        elif says == "bad" and self.patience:
            agent.failed_at = [at for at in agent.failed_at if now - at < WINDOW] + [now]
            if tried or len(agent.failed_at) >= self.patience:
                agent.until = now + min(MAX_RESET, RESET * 2.0**agent.times)
                agent.times, agent.news, agent.failed_at = agent.times + 1, agent.news + 1, []
                self._world.saw("branch: an agent is left alone")

    def _demand(self, holds: bool, detail: str) -> None:
        self._world.demand(holds, "left alone", detail)


def _says(outcome: NodeResult | BaseException | None) -> str:
    """Whose fault it was: the caller's and who asks to be left alone say nothing about an agent."""
    if isinstance(outcome, NodeResult):
        return "good"
    polite = getattr(outcome, "retry_after", None) is not None or getattr(outcome, "status_code", None) == 429
    return "nothing" if outcome is None or polite or isinstance(outcome, PermanentError) else "bad"
