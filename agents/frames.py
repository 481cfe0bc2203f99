"""Frames between the daemon and a worker process: four bytes of length, then msgpack; data only."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Final

from messages.wire import WireError, pack, unpack

_LENGTH: Final = struct.Struct(">I")


def write_frame(stream: BinaryIO, value: Any) -> None:
    """Write plain data and flush. Raises `OSError` when nobody reads any more."""
    body = pack(value)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read_frame(stream: BinaryIO, *, max_bytes: int) -> dict[str, Any] | None:
    """Return the next frame, or None at the end. Raises `WireError`; a frame too large is not read at all."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    if size > max_bytes:
        raise WireError("too_large", f"a frame of {size} bytes; at most {max_bytes} are taken")
    body = stream.read(size)
    if len(body) < size:
        return None
    value = unpack(body, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise WireError("invalid_body", "a frame must be one msgpack map")
    return value
