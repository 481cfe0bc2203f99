"""Walks JSON schemas: whether a result of this shape can have that path, and an input of that shape can take it.

Only a plain contradiction counts as "no": what a schema leaves open is found out when the value is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
ANYTHING: Schema = {}


def can_have(schema: Schema, path: Sequence[str]) -> Schema | None:
    """Return the schema of what stands at `path`, or None when nothing can stand there."""
    root = schema
    options = [_expand(root, schema)]
    current: list[Schema] = [option for group in options for option in group]
    for step in path:
        following = [below for option in current for below in _step(root, option, step)]
        if not following:
            return None
        current = following
    with_definitions = [{**option, "$defs": root.get("$defs", {})} for option in current]
    return with_definitions[0] if len(with_definitions) == 1 else {"anyOf": with_definitions}


def can_take(target: Schema, source: Schema) -> bool:
    """Return whether a value of shape `source` could be one of shape `target`."""
    takes = {kind for option in _expand(target, target) for kind in _types(option)}
    gives = {kind for option in _expand(source, source) for kind in _types(option)}
    if "any" in takes or "any" in gives:
        return True
    if "number" in takes:
        takes.add("integer")
    if "number" in gives:
        gives.add("integer")
    return bool(takes & gives)


def fields_of(schema: Schema) -> dict[str, Schema]:
    """Return the named fields a result of this shape has, one level deep."""
    found: dict[str, Schema] = {}
    for option in _expand(schema, schema):
        for name, field in option.get("properties", {}).items():
            found.setdefault(name, {**field, "$defs": schema.get("$defs", {})})
    return found


def types_of(schema: Schema) -> set[str]:
    """Return the JSON types a value of this shape may have; `any` when that is open."""
    return {kind for option in _expand(schema, schema) for kind in _types(option)}


def items_of(schema: Schema) -> Schema | None:
    """Return the shape of the items of a list of this shape; None when it is no list."""
    for option in _expand(schema, schema):
        if option.get("type") == "array":
            items = option.get("items", {})
            return {**items, "$defs": schema.get("$defs", {})} if isinstance(items, Mapping) else ANYTHING
    return None


def pattern_of(schema: Schema) -> str | None:
    """Return the pattern a text of this shape must match, if it has one."""
    for option in _expand(schema, schema):
        if isinstance(option.get("pattern"), str):
            return str(option["pattern"])
    return None


def choices_of(schema: Schema) -> list[str]:
    """Return the texts a value of this shape must be one of; none when it may be any."""
    values = [v for option in _expand(schema, schema) for v in option.get("enum", [option.get("const")])]
    return [value for value in values if isinstance(value, str)]


def bounds_of(schema: Schema) -> tuple[Any, Any] | None:
    """Return the least and the greatest whole number of this shape, or None unless it has both."""
    for option in _expand(schema, schema):
        low = option.get("minimum", option.get("exclusiveMinimum"))
        high = option.get("maximum", option.get("exclusiveMaximum"))
        if option.get("type") == "integer" and low is not None and high is not None:
            return low, high
    return None


def is_date(schema: Schema) -> bool:
    """Return whether a value of this shape is a date, written as 2026-11-20."""
    return any(option.get("format") == "date" for option in _expand(schema, schema))


def _expand(root: Schema, schema: Schema, depth: int = 0) -> list[Schema]:
    """Follow `$ref` and unions to the plain alternatives."""
    if depth > 20:
        return [ANYTHING]
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        definitions = schema.get("$defs") or root.get("$defs") or {}
        below = definitions.get(name)
        return [ANYTHING] if below is None else _expand(root, below, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return [option for part in schema[key] for option in _expand(_with(part, schema, root), part, depth + 1)]
    return [schema]


def _with(part: Schema, schema: Schema, root: Schema) -> Schema:
    return part if "$defs" in part else {"$defs": schema.get("$defs") or root.get("$defs") or {}}


def _step(root: Schema, schema: Schema, step: str) -> Iterator[Schema]:
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        if step in schema.get("properties", {}):
            yield from _expand(root, schema["properties"][step])
        else:
            extra = schema.get("additionalProperties", "properties" not in schema)
            if isinstance(extra, Mapping):
                yield from _expand(root, extra)
            elif extra:
                yield ANYTHING
    elif kind == "array":
        if step.isascii() and step.isdigit():
            prefix = schema.get("prefixItems", ())
            if int(step) < len(prefix):
                yield from _expand(root, prefix[int(step)])
            else:
                items = schema.get("items", {})
                if isinstance(items, Mapping):
                    yield from _expand(root, items)
    elif kind is None and "enum" not in schema and "const" not in schema:
        yield ANYTHING


def _types(schema: Schema) -> set[str]:
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return set(kind)
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    named = {_name_of(value) for value in values}
    return named or {"any"}


def _name_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names: dict[type, str] = {str: "string", int: "integer", float: "number", type(None): "null", list: "array"}
    return names.get(type(value), "object")
