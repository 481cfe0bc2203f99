"""Bytes to messages and back: JSON and msgpack, told apart by the first byte, checked strictly, once.

Limits come before decoding: size first, then depth and number of items, so that a small hostile body cannot grow large
in memory. Data never names code: no extension types, no imports, one closed union of message types.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack
from pydantic import TypeAdapter, ValidationError

from messages.inbound import Cancel, Inbound, Pause, Resume, UserMessage

MAX_DEPTH = 32
MAX_ITEMS = 10_000
"""Values in one message, counted over all levels."""

TYPES = ("user_message", "cancel", "pause", "resume")
CONTENT_TYPES = {"application/json": "json", "application/msgpack": "msgpack", "application/x-msgpack": "msgpack"}

_INBOUND: TypeAdapter[UserMessage | Cancel | Pause | Resume] = TypeAdapter(Inbound)


class WireError(ValueError):
    """These bytes are not a message; nothing was done.

    `code` is one of `too_large`, `invalid_body`, `unsupported_type`, `unsupported_version`, `invalid_field`,
    `invalid_conversation_id`; `field` says where.
    """

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field


def decode(
    body: bytes, *, max_bytes: int, defaults: dict[str, Any] | None = None
) -> UserMessage | Cancel | Pause | Resume:
    """Return the message in `body`; `defaults` are fields the door already knows (the conversation id of a URL).

    Raises `WireError`, which names what is wrong, where, and what would be right.
    """
    fields = decode_object(body, max_bytes=max_bytes)
    if defaults:
        for key, value in defaults.items():
            if fields.setdefault(key, value) != value:
                raise WireError(
                    "invalid_field", f"{key} is {fields[key]!r} in the body but {value!r} in the address", key
                )
    return validate(fields)


def decode_object(body: bytes, *, max_bytes: int) -> dict[str, Any]:
    """Return the one object in `body` as plain data, within all limits. Raises `WireError`."""
    if len(body) > max_bytes:
        raise WireError("too_large", f"the message has {len(body)} bytes; at most {max_bytes} are taken")
    first = body.lstrip(b" \t\r\n")[:1]
    if first == b"{":
        fields = _decode_json(body)
        _check_shape(fields, escaped=b"\\u" in body)
    elif first and (0x80 <= first[0] <= 0x8F or first[0] in (0xDE, 0xDF)):
        fields = _decode_msgpack(body)
        _check_shape(fields, escaped=False)
    else:
        raise WireError("invalid_body", "the message must be one JSON object, or one msgpack map")
    return fields


def validate(fields: dict[str, Any]) -> UserMessage | Cancel | Pause | Resume:
    """Return `fields` as the message its `type` names. Raises `WireError` for the first thing that is wrong."""
    kind = fields.get("type")
    if kind not in TYPES:
        raise WireError("unsupported_type", f"type is {kind!r}; it must be one of {', '.join(TYPES)}", "type")
    try:
        return _INBOUND.validate_python(fields)
    except ValidationError as error:
        raise _explain(error) from None


def pack(value: Any) -> bytes:
    """Return plain data as msgpack."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(body: bytes, *, max_bytes: int) -> Any:
    """Return the plain data in `body`; refuses extension types, trailing bytes and oversized parts.

    Raises `WireError`.
    """
    if len(body) > max_bytes:
        raise WireError("too_large", f"{len(body)} bytes; at most {max_bytes} are taken")
    try:
        return msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            ext_hook=_refuse_extension,
            object_pairs_hook=_unique_keys,
        )
    except WireError:
        raise
    except (ValueError, RecursionError, UnicodeError, msgpack.exceptions.UnpackException) as error:
        raise WireError("invalid_body", f"not valid msgpack: {error}") from None


def _decode_json(body: bytes) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
    except WireError:
        raise
    except RecursionError:
        raise WireError("invalid_body", f"nested deeper than {MAX_DEPTH} levels") from None
    except (ValueError, UnicodeError) as error:
        raise WireError("invalid_body", f"not valid JSON: {error}") from None
    return fields


def _decode_msgpack(body: bytes) -> dict[str, Any]:
    fields = unpack(body, max_bytes=len(body))
    if not isinstance(fields, dict):
        raise WireError("invalid_body", "the message must be one msgpack map")
    return fields


def _unique_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[Any] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add() returns None, which is the point
        raise WireError("invalid_body", f"the key {twice!r} occurs twice in one object", str(twice))
    return fields


def _refuse_constant(name: str) -> Any:
    raise WireError("invalid_body", f"{name} is not a JSON number")


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise WireError("invalid_body", f"msgpack extension type {code} is not taken; use plain values")


def _check_shape(value: dict[str, Any], *, escaped: bool) -> None:
    """Raise for what cannot be stored. `escaped`: texts may hold half a surrogate pair, which only escapes can say."""
    items = 0
    level: list[Any] = [value]
    for depth in range(MAX_DEPTH + 2):
        if not level:
            return
        if depth > MAX_DEPTH:
            break
        below: list[Any] = []
        items += len(level)
        for part in level:
            kind = type(part)  # decoders make no subclasses
            if kind is str:
                if escaped:
                    _check_text(part)
            elif kind is dict:
                below += part
                below += part.values()
            elif kind is list:
                below += part
            elif kind is not int and kind is not bool and part is not None:
                _check_storable(part)
        if items + len(below) > MAX_ITEMS:
            raise WireError("too_large", f"more than {MAX_ITEMS} values in one message")
        level = below
    raise WireError("invalid_body", f"nested deeper than {MAX_DEPTH} levels")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise WireError("invalid_body", "a text holds a lone surrogate, which is not valid Unicode") from None


def _check_storable(value: Any) -> None:
    if isinstance(value, bytes):
        raise WireError("invalid_body", "binary values are not taken; send text")
    if not isinstance(value, float):  # msgpack's decoder makes an object of this extension, and asks nobody
        raise WireError("invalid_body", "msgpack timestamps are not taken; use plain values")
    if not math.isfinite(value):
        raise WireError("invalid_body", f"{value} is not a number that can be stored")


def _closest(errors: list[Any]) -> Any:
    """Return the first error; where a field takes several forms, that of the form which fits the furthest."""
    loc = errors[0]["loc"]
    form = next((place for place, part in enumerate(loc) if _is_form(part)), None)
    if form is None:
        return errors[0]
    return max((each for each in errors if each["loc"][:form] == loc[:form]), key=lambda each: len(each["loc"]))


def _is_form(part: int | str) -> bool:
    """Return whether a part of a place is the name that pydantic gives to one of several forms, and no field."""
    return isinstance(part, str) and part.endswith("]") and part.startswith(("literal[", "dict[", "[key"))


def _explain(error: ValidationError) -> WireError:
    first = _closest(error.errors(include_url=False, include_context=False))
    where = ".".join(str(part) for part in first["loc"] if part not in TYPES and not _is_form(part))
    if first["type"] == "extra_forbidden":
        detail = f"{where} is not a known field"
    elif first["type"] == "missing":
        detail = f"{where} is missing"
    elif first["input"] == "" and first["type"] in ("too_short", "string_too_short"):
        detail = f"{where} must not be empty"
    elif where == "conversation_id":
        detail = "conversation_id must have 1 to 200 characters of A-Z a-z 0-9 . _ : -"
        return WireError("invalid_conversation_id", detail, where)
    else:
        shown = repr(first["input"])
        detail = f"{where}: {first['msg']}" + (f", not {shown[:80]}" if len(shown) < 200 else "")
    return WireError("invalid_field", detail, where or None)
