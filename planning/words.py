"""Which agents a message is about: words compared with what each agent says of itself.

A word counts by how few agents use it (inverse document frequency), and by where an agent uses it: its name and
examples weigh more than its description. Agents are picked greedily: the best one explains its words, and only what it
leaves unexplained speaks for further ones. Everything is counted, nothing is learned, so a choice can be explained.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agents.spec import AgentSpec

_WORD: Final = re.compile(r"[^\W_]+")
_STOP_WORDS: Final = frozenset(
    """
    a about after all also am an and any are as at be been but by can could did do does doing done each few for from
    get give got had has have he her here him his how i if in into is it its just know let like many me more most much
    must my no not now of off ok on one only or other our out over please quite really say she should so some such tell
    than thank that the their them then there these they thing this those to too two under up us very want was we well
    were what when where which while who whom whose why will with would yes you your
    """.split()
)
_NAME, _EXAMPLE, _DESCRIPTION = 3.0, 2.0, 1.0
"""Weights of the places where an agent may use a word."""
_ENOUGH: Final = 2.0
"""Score from which an agent is picked: one word of its name that few others use, or two of its examples."""


def stem(word: str) -> str:
    """Return a word without its commonest English endings; the same for `sell`, `sells`, `selling`."""
    for ending, least in (("ings", 4), ("ing", 4), ("iest", 3), ("est", 4), ("ies", 3), ("ed", 4), ("es", 4), ("s", 3)):
        if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
            return word[: -len(ending)]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def words_of(text: str) -> list[str]:
    """Return the stems of a text's meaningful words, in order."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text.replace("_", " ")).lower()
    return [
        stem(word) for word in _WORD.findall(split) if word not in _STOP_WORDS and (len(word) > 1 or word.isdigit())
    ]


@dataclass(frozen=True, slots=True)
class Pick:
    """One agent, and the words that spoke for it."""

    agent: AgentSpec
    score: float
    words: tuple[str, ...]


def in_order_of(text: str, picks: Iterable[Pick]) -> list[Pick]:
    """Return the picks in the order in which the text comes to speak of them, so that it is answered in its order."""
    said = words_of(text)
    return sorted(picks, key=lambda pick: min(map(said.index, pick.words), default=0))


class Vocabulary:
    """What all agents say of themselves."""

    def __init__(self, agents: Iterable[AgentSpec]) -> None:
        self._agents = list(agents)
        self._weights: dict[str, dict[str, float]] = {agent.name: _weights(agent) for agent in self._agents}
        self._spoken = {agent.name: set(words_of(f"{agent.name} {agent.description}")) for agent in self._agents}
        users = Counter(word for weights in self._weights.values() for word in weights)
        total = max(1, len(self._agents))
        self._rarity = {word: math.log(1 + total / count) for word, count in users.items()}

    def score(self, agent: AgentSpec, words: Iterable[str]) -> float:
        """Return how much these words speak for an agent."""
        weights = self._weights[agent.name]
        return sum(weights.get(word, 0.0) * self._rarity.get(word, 0.0) for word in set(words))

    def pick(self, text: str, *, without: Sequence[str] = ()) -> list[Pick]:
        """Return the agents a message is about, the best first."""
        words = set(words_of(text))
        candidates = [agent for agent in self._agents if agent.name not in without]
        # What only an agent's examples mention are names of things, most likely; they speak for it only when nobody's
        # own description has anything to do with the message.
        named = [agent for agent in candidates if words & self._spoken[agent.name]]
        return self._greedy(named, words, named_only=True) or self._greedy(candidates, words, named_only=False)[:1]

    def _greedy(self, candidates: list[AgentSpec], words: set[str], *, named_only: bool) -> list[Pick]:
        left = set(words)
        candidates = list(candidates)
        picks: list[Pick] = []
        while candidates and left:
            # Between equals, the agent that says less besides: "stock" is more about `stock` than about `low_stock`.
            best = max(candidates, key=lambda a: (self.score(a, left), -len(words_of(a.name)), a.name))
            candidates.remove(best)
            score = self.score(best, left)
            if score < _ENOUGH:
                break
            spoke = left & set(self._weights[best.name])
            if best.effects == "write" and self._may_only_ask(spoke):
                continue
            if named_only and not spoke & self._spoken[best.name]:
                continue
            picks.append(Pick(best, score, tuple(sorted(spoke))))
            left -= spoke
        return picks

    def _may_only_ask(self, words: set[str]) -> bool:
        """Return whether an agent that changes nothing has all these words in its name or examples.

        "What is the price?" must not end at `change_price`, however much its name speaks for it.
        """
        readers = (self._weights[agent.name] for agent in self._agents if agent.effects != "write")
        return any(all(weights.get(word, 0.0) >= _EXAMPLE for word in words) for weights in readers)

    def unexplained(self, text: str, agents: Iterable[AgentSpec]) -> set[str]:
        """Return the words of a text that are none of these agents' business: names of things, most likely."""
        explained = {word for agent in agents for word in self._spoken[agent.name]}
        return {word for word in words_of(text) if word not in explained}


def _weights(agent: AgentSpec) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text, weight in (
        (agent.description, _DESCRIPTION),
        (" ".join(agent.examples), _EXAMPLE),
        (agent.name, _NAME),
    ):
        for word in words_of(text):
            weights[word] = max(weights.get(word, 0.0), weight)
    return weights
