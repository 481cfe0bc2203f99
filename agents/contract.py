"""What an agent takes and gives, read from its annotations, and checked on every call.

Inputs come as JSON and are validated as JSON: strictly (a bool is no int, "12" is no number), yet dates, enums and
nested models are taken in their JSON form. Results are validated against the return annotation and encoded once.
"""

from __future__ import annotations

import hashlib
import inspect
import types
import typing
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, from_json, to_json

from agents.context import Context
from agents.errors import NOTHING, AgentDefinitionError, ContractViolation, ResultTooLarge


class _MessageTextMarker:
    """Marks a parameter that is the text of the user's message."""

    def __repr__(self) -> str:
        return "MessageText"


MESSAGE_TEXT: Final = _MessageTextMarker()
MessageText = Annotated[str, MESSAGE_TEXT]
"""Annotate a parameter with this and it is given the text of the user's message."""

_INPUTS = ConfigDict(extra="forbid", strict=True)


class Contract:
    """The contract of one function. Raises `AgentDefinitionError` when the function does not declare one."""

    def __init__(self, agent: str, function: Callable[..., Any]) -> None:
        self.agent = agent
        hints = _hints(agent, function)
        signature = inspect.signature(function)
        parameters: dict[str, tuple[Any, Any]] = {}
        self.context_parameter: str | None = None
        """Name of the parameter that is given the `Context`, if there is one."""
        message_text: list[str] = []
        for name, parameter in signature.parameters.items():
            annotation = _annotation(agent, name, parameter, hints)
            if annotation is Context:
                if self.context_parameter is not None:
                    raise AgentDefinitionError(f"agent {agent}: {name} is a second Context; one is enough")
                self.context_parameter = name
                continue
            if _is_message_text(annotation):
                message_text.append(name)
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            if _has_alias(annotation, default):
                raise AgentDefinitionError(
                    f"agent {agent}: parameter {name} has an alias; inputs go by parameter names"
                )
            parameters[name] = (annotation, default)
        self.message_text = tuple(message_text)
        """Parameters that are the text of the user's message."""
        if "return" not in hints:
            raise AgentDefinitionError(f"agent {agent}: it needs a return annotation; that is half of its contract")
        try:
            self._inputs = create_model(f"{agent}_inputs", __config__=_INPUTS, **_fields(parameters))
            self._outputs: TypeAdapter[Any] = TypeAdapter(hints["return"])
            self._exact = _is_made_of(_EXACT, self._outputs.core_schema)
            self._finite = _is_made_of(_EXACT - {"any", "float"}, self._outputs.core_schema)
            self.input_schema: dict[str, Any] = self._inputs.model_json_schema()
            self.output_schema: dict[str, Any] = self._outputs.json_schema(mode="serialization")
        except Exception as error:  # an annotation can fail in as many ways as there are types
            raise AgentDefinitionError(f"agent {agent}: its annotations are no contract: {error}") from error
        self.fields: Mapping[str, FieldInfo] = dict(zip(parameters, self._inputs.model_fields.values(), strict=True))
        """Input fields by parameter name."""
        # Past pydantic's own methods, which only pass two dozen parameters on: a microsecond for each call of an agent.
        self._take = self._inputs.__pydantic_validator__.validate_json
        self._validate = self._outputs.validator.validate_python
        self._write = self._outputs.serializer.to_json
        self._keys = tuple((name, f"p{number}") for number, name in enumerate(parameters))
        self._parameters = parameters
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self.version = _version(agent, self.input_schema, self.output_schema)
        """Short hash of both schemas."""

    def bind(self, inputs: Mapping[str, Any], *, text: str) -> dict[str, Any]:
        """Return validated keyword arguments. Raises `ContractViolation` naming field and value."""
        if not inputs and not self.fields:
            return {}
        given = dict(inputs)
        for name in self.message_text:
            given.setdefault(name, text)
        try:
            # Strict here too: the model's own setting does not reach into nested models.
            values = self._take(_json(given), strict=True).__dict__
        except ValidationError as error:
            raise _violation(self.agent, "input", error) from None
        except (PydanticSerializationError, ValueError) as error:
            raise ContractViolation(self.agent, "input", NOTHING, f"not plain data: {error}") from None
        return {name: values[key] for name, key in self._keys}

    def encode(self, result: Any, *, max_bytes: int) -> tuple[Any, bytes]:
        """Return a result as plain data and as JSON. Raises `ContractViolation` or `ResultTooLarge`."""
        if isinstance(result, (str, bytes, bytearray)) and len(result) > max_bytes:
            raise ResultTooLarge(_too_large(self.agent, len(result), max_bytes))
        checked = self._check(result)
        try:
            # Naming a mode lets go of the interpreter, and another thread takes it: a switch for each result.
            body = self._write(checked, by_alias=True, warnings=False if self._exact else "error")
            if len(body) > max_bytes:
                raise ResultTooLarge(_too_large(self.agent, len(body), max_bytes))
            # JSON has no word for NaN and infinity: they are written as null, or as words that are no JSON.
            if not self._finite and any(body.find(word) >= 0 for word in (b"null", b"NaN", b"Infinity")):
                self._check_finite(checked)
            return from_json(body, allow_inf_nan=False), body
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise ContractViolation(self.agent, "result", NOTHING, f"cannot be written as JSON: {error}") from None

    def _check_finite(self, checked: Any) -> None:
        where = _not_a_number(self._outputs.dump_python(checked, by_alias=True))
        if where is not None:
            problem = "is not a finite number, which JSON cannot hold"
            raise ContractViolation(self.agent, f"result{where}", NOTHING, problem)

    def _check(self, result: Any) -> Any:
        """Return a result as its type. Strict, so that "12" or True is no number; yet a dict will do for a model."""
        try:
            return self._validate(result, strict=True)
        except ValidationError as error:
            violation = _violation(self.agent, "result", error)
        # What has no JSON form either is told by the first violation.
        with suppress(PydanticSerializationError, ValueError, RecursionError):
            try:
                return self._outputs.validate_json(to_json(result), strict=True)
            except ValidationError as error:
                violation = _violation(self.agent, "result", error)
        raise violation

    def validate_field(self, name: str, value: Any) -> str | None:
        """Return what is wrong with a literal for one input field, or None."""
        adapter = self._adapters.get(name)
        if adapter is None:
            annotation, default = self._parameters[name]
            told: Any = Annotated[annotation, default] if isinstance(default, FieldInfo) else annotation
            adapter = self._adapters[name] = TypeAdapter(told)
        try:
            adapter.validate_json(_json(value), strict=True)
        except ValidationError as error:
            return str(error.errors(include_url=False, include_context=False)[0]["msg"])
        except (PydanticSerializationError, ValueError) as error:
            return f"not plain data: {error}"
        return None

    def required(self) -> set[str]:
        """Return the input fields that have no default and are not the message's text."""
        return {name for name, field in self.fields.items() if field.is_required() and name not in self.message_text}


def _hints(agent: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # whatever an annotation's text evaluates to
        raise AgentDefinitionError(f"agent {agent}: an annotation cannot be read: {error}") from error


def _annotation(agent: str, name: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise AgentDefinitionError(f"agent {agent}: parameter {name} must be given by name; * and ** are no contract")
    if name not in hints:
        raise AgentDefinitionError(f"agent {agent}: parameter {name} needs an annotation; that is its contract")
    annotation = hints[name]
    options = get_args(annotation) if get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,)
    return Context if Context in options else annotation


def _is_message_text(annotation: Any) -> bool:
    options = get_args(annotation) if get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,)
    return any(get_origin(option) is Annotated and MESSAGE_TEXT in option.__metadata__ for option in options)


def _has_alias(annotation: Any, default: Any) -> bool:
    told = [default, *(annotation.__metadata__ if get_origin(annotation) is Annotated else ())]
    return any(isinstance(part, FieldInfo) and (part.alias or part.validation_alias) for part in told)


def _fields(parameters: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Return the fields of a model, in order. Their own names are neutral: a parameter may be called `copy` or `_x`."""
    return {
        f"p{number}": (Annotated[annotation, Field(alias=name)], default)
        for number, (name, (annotation, default)) in enumerate(parameters.items())
    }


def _json(value: Any) -> bytes:
    """Return plain data as JSON. Raises `ValueError` for what JSON cannot hold."""
    body = to_json(value)
    # `in` would try bytes as a number first, and drop the error.
    if body.find(b"NaN") >= 0 or body.find(b"Infinity") >= 0:
        where = _not_a_number(value)
        if where is not None:
            raise ValueError(f"{where.lstrip('.') or 'it'} is not a finite number")
    return body


_EXACT: Final = frozenset(
    {"any", "none", "bool", "int", "float", "str", "literal", "nullable", "list", "dict", "typed-dict"}
)
"""Kinds of types whose values, once validated, are sure to be written as they say: plain data, made anew."""
_INNER: Final = ("schema", "items_schema", "keys_schema", "values_schema")


def _is_made_of(kinds: frozenset[str], schema: Any) -> bool:
    """Return whether `schema` has no other kinds in it, and nothing with a way of its own to be written."""
    if schema["type"] not in kinds or "serialization" in schema:
        return False
    if "extras_schema" in schema or schema.get("extra_behavior") == "allow":
        return False  # whatever is added has a schema of its own, or none
    if any(type(value) is float for value in schema.get("expected", ())) and "float" not in kinds:
        return False
    inner = [schema[key] for key in _INNER if key in schema]
    inner += [field["schema"] for field in schema.get("fields", {}).values()]
    return all(_is_made_of(kinds, part) for part in inner)


def _version(agent: str, *schemas: Any) -> str:
    return hashlib.sha256(to_json([agent, *schemas])).hexdigest()[:12]


def _violation(agent: str, side: str, error: ValidationError) -> ContractViolation:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join([side, *map(str, first["loc"])])
    value = NOTHING if first["type"] == "missing" else first["input"]
    return ContractViolation(agent, where, value, first["msg"])


def _too_large(agent: str, size: int, most: int) -> str:
    return f"{agent}: the result has {size} bytes; at most {most} are taken"


def _not_a_number(value: Any) -> str | None:
    """Return where a NaN or an infinity stands inside plain data, or None."""
    if isinstance(value, float):
        return None if value - value == 0 else ""
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        parts = enumerate(value)
    for key, part in parts:
        where = _not_a_number(part)
        if where is not None:
            return f".{key}{where}"
    return None
