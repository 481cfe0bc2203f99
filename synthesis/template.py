"""The default synthesizer: a readable answer from the agents' results, in plan order; no model is needed.

An agent may give its own sentence, `reply="{title} costs {price:.2f}"`; names in braces are fields of its result, with
dots into nested ones. Only plain data is reached that way, never an attribute of an object. What is missing is always
said, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from agents.registry import Registry
from messages.events import Missing
from messages.synthesis import Outcome, Synthesize
from workflow.graph import references, source_of

_FIELD: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.]*)(?::([^{}]{0,20}))?\}")
_FORMAT: Final = re.compile(r"[<>^]?[+-]?,?\d{0,3}(?:,)?(?:\.\d{1,2})?[dfs%]?")
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_SHOWN_ITEMS: Final = 6


class MissingField(LookupError):
    """A result lacks a field that its agent's sentence names."""


class TemplateSynthesizer:
    """Made once for a registry."""

    def __init__(self, registry: Registry) -> None:
        self._sentences: dict[str, str] = {spec.name: spec.reply for spec in registry if spec.reply is not None}

    def write(self, order: Synthesize) -> str:
        """Return the reply's text."""
        said = [outcome for outcome in order.outcomes if outcome.succeeded]
        # What only fed others would be repeated by their sentences; what fed nothing but failures would be lost.
        feeding = {source_of(ref) for outcome in said if outcome.inputs for ref in references(outcome.inputs)}
        final = [outcome for outcome in said if outcome.node not in feeding] or said
        agents = [outcome.agent for outcome in order.outcomes]
        sentences = dict.fromkeys(self._sentence(outcome, agents) for outcome in final)
        disclosed = [_disclosure(branch, order.outcomes, agents) for branch in order.missing]
        return " ".join(sentence for sentence in [*sentences, *disclosed] if sentence)

    def _sentence(self, outcome: Outcome, agents: list[str]) -> str:
        template = self._sentences.get(outcome.agent)
        if template is not None:
            # Without a field that it names, the plain words below say what is there.
            with suppress(MissingField):
                return _end(fill(template, outcome.result))
        name = _name(outcome, agents)
        return _end(f"{name[:1].upper()}{name[1:]}: {show(outcome.result)}")


def fill(template: str, result: Any) -> str:
    """Return a sentence with its fields filled in. Raises `MissingField`."""

    def one(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return match.group(0)[0]
        return _format(_look_up(result, match.group(1)), match.group(2))

    return _FIELD.sub(one, template)


def fields_named(template: str) -> list[str]:
    """Return the fields of a result that a sentence names, as it spells them; `result` is the whole of it."""
    named = (match.group(1) for match in _FIELD.finditer(template))
    return [path for path in dict.fromkeys(named) if path is not None and path != "result"]


def show(value: Any) -> str:
    """Return plain data in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}" if value == 0 or 0.01 <= abs(value) < 1e15 else f"{value:g}"
    if isinstance(value, Mapping):
        parts = [f"{_words(str(key))} {show(part)}" for key, part in islice(value.items(), _SHOWN_ITEMS)]
        return f"{', '.join(parts)}{_more(len(value))}" or "nothing"
    if isinstance(value, list):
        shown = "; ".join(show(part) for part in value[:_SHOWN_ITEMS])
        return f"{shown}{_more(len(value), ';')}" or "none"
    return str(value) or "nothing"


def _look_up(result: Any, path: str) -> Any:
    value = result
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
            value = value[int(step)]
        elif path == "result":
            return result
        else:
            raise MissingField(path)
    return value


def _format(value: Any, how: str | None) -> str:
    if how and isinstance(value, (int, float, str)) and _FORMAT.fullmatch(how):
        try:
            return format(value, how)
        except (ValueError, OverflowError):  # a text as a number, a whole number beyond every float
            return show(value)
    return show(value)


def _name(outcome: Outcome, agents: list[str]) -> str:
    """Return what a call is called, by its agent, and by what it was given when the agent was called several times."""
    return _words(outcome.agent) + (_given(outcome.inputs) if agents.count(outcome.agent) > 1 else "")


def _disclosure(branch: Missing, outcomes: Sequence[Outcome], agents: list[str]) -> str:
    outcome = next((each for each in outcomes if each.node == branch.node), None)
    name = _words(branch.node) if outcome is None else _name(outcome, agents)
    tries = f" after {branch.attempts} attempt{'s' * (branch.attempts != 1)}" if branch.attempts else ""
    return _end(f"Missing: {name}{tries} ({branch.reason.rstrip('.')})")


def _given(inputs: Mapping[str, Any]) -> str:
    """Return what tells one call of an agent from another: the inputs that stand in the plan itself."""
    told = [f"{_words(name)} {show(value)}" for name, value in inputs.items() if not references(value)]
    return f" of {', '.join(told)}" if told else ""


def _more(count: int, comma: str = ",") -> str:
    return f"{comma} and {count - _SHOWN_ITEMS} more" if count > _SHOWN_ITEMS else ""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _end(sentence: str) -> str:
    sentence = sentence.strip()
    return sentence if not sentence or sentence[-1] in ".!?" else f"{sentence}."
