"""What a message names that could be the value of an input: by its pattern, its choices, its bounds, or as a date."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from planning.schema_paths import Schema, bounds_of, choices_of, is_date, pattern_of, types_of

_FLAGS: Final = re.compile(r"\(\?([aimsx]+)\)")
_DATE: Final = r"\d{4}-\d{2}-\d{2}"
_NUMBER: Final = r"[+-]?\d{1,18}"
_SHORTEST_CHOICE: Final = 2
"""Characters; a single letter stands in a text for too many other reasons."""


def values_in(text: str, schema: Schema, *, required: bool, accepts: Callable[[Any], bool]) -> list[Any]:
    """Return the values of this shape that the text names, in order, once each.

    Choices and bounded numbers are looked for only where an input is required: they are common words and figures, and
    an input with a default is better left alone than filled by chance.
    """
    pattern = pattern_of(schema)
    if pattern is not None:
        found: list[Any] = occurrences(pattern, text)
    elif is_date(schema):
        found = list(occurrences(_DATE, text))
    elif required and (choices := choices_of(schema)):
        found = _choices(choices, text)
    elif required and bounds_of(schema) is not None:
        found = list(occurrences(_NUMBER, text))
    else:
        return []
    if "string" not in types_of(schema):
        found = [_number(value) for value in found]
    return [value for value in dict.fromkeys(found) if value is not None and accepts(value)]


def occurrences(pattern: str, text: str) -> list[str]:
    """Return what in the text matches a field's pattern, as whole words, once each."""
    leading = _FLAGS.match(pattern)
    flags = "" if leading is None else leading.group(1)
    bare = pattern[0 if leading is None else leading.end() :].removeprefix("^").removesuffix("$")
    try:
        found = re.finditer(rf"(?<![\w-])(?{flags}:{bare})(?![\w-])", text)
        return list(dict.fromkeys(match.group(0).rstrip("-") for match in found if match.group(0)))
    except re.error:
        return []


def _choices(choices: list[str], text: str) -> list[str]:
    """Return the choices that the text names, in whatever case and in the plural too."""
    found: list[tuple[int, str]] = []
    for choice in choices:
        if len(choice) >= _SHORTEST_CHOICE:
            words = re.escape(choice).replace("_", r"[ _-]")
            match = re.search(rf"(?<![\w-]){words}s?(?![\w-])", text, re.IGNORECASE)
            found += [] if match is None else [(match.start(), choice)]
    return [choice for _, choice in sorted(found)]


def _number(value: Any) -> Any:
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return None
