"""The default synthesizer: a readable answer from the agents' results, in plan order; no model is needed.

An agent may give its own sentence, `reply="{title} costs {price:.2f}"`; names in braces are fields of its result, with
dots into nested ones. Only plain data is reached that way, never an attribute of an object. What is missing is always
said, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agents.registry import Registry
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
        feeding = {source_of(ref) for outcome in order.outcomes for ref in references(outcome.inputs)}
        said = [outcome for outcome in order.outcomes if outcome.succeeded]
        final = [outcome for outcome in said if outcome.node not in feeding] or said
        sentences = [self._sentence(outcome) for outcome in final]
        sentences.extend(_disclosures(order))
        return " ".join(dict.fromkeys(sentence for sentence in sentences if sentence))

    def _sentence(self, outcome: Outcome) -> str:
        template = self._sentences.get(outcome.agent)
        if template is not None:
            try:
                return _end(fill(template, outcome.result))
            except MissingField:
                pass  # the generic words below say what is there
        return _end(f"{_words(outcome.agent).capitalize()}: {show(outcome.result)}")


def fill(template: str, result: Any) -> str:
    """Return a sentence with its fields filled in. Raises `MissingField`."""

    def one(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return match.group(0)[0]
        return _format(_look_up(result, match.group(1)), match.group(2))

    return _FIELD.sub(one, template)


def show(value: Any) -> str:
    """Return plain data in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}" if value == 0 or 0.01 <= abs(value) < 1e15 else f"{value:g}"
    if isinstance(value, Mapping):
        return (
            ", ".join(f"{_words(str(key))} {show(part)}" for key, part in list(value.items())[:_SHOWN_ITEMS])
            or "nothing"
        )
    if isinstance(value, list):
        shown = "; ".join(show(part) for part in value[:_SHOWN_ITEMS])
        more = len(value) - _SHOWN_ITEMS
        return f"{shown}; and {more} more" if more > 0 else shown or "none"
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
        except ValueError:
            return show(value)
    return show(value)


def _disclosures(order: Synthesize) -> Iterator[str]:
    agents: Mapping[str, str] = {outcome.node: outcome.agent for outcome in order.outcomes}
    for branch in order.missing:
        what = _words(agents.get(branch.node, branch.node))
        tries = (
            ""
            if branch.attempts == 0
            else " after 1 attempt"
            if branch.attempts == 1
            else (f" after {branch.attempts} attempts")
        )
        yield _end(f"Missing: {what}{tries} ({branch.reason.rstrip('.')})")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _end(sentence: str) -> str:
    sentence = sentence.strip()
    return sentence if not sentence or sentence[-1] in ".!?" else f"{sentence}."
