"""Frames between the daemon and a worker process: four bytes of length, then msgpack; data only."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Final

from messages.wire import WireError, pack, unpack

_LENGTH: Final = struct.Struct(">I")


class FrameTooLarge(WireError):
    """A frame of more bytes than are taken; none of them was read."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__("too_large", f"an output of {size} bytes is over the limit of {limit}")


def write_frame(stream: BinaryIO, value: Any) -> None:
    """Write plain data and flush. Raises `OSError` when nobody reads any more."""
    body = pack(value)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read_frame(stream: BinaryIO, *, max_bytes: int) -> dict[str, Any] | None:
    """Return the next frame, or None at the end. Raises `WireError`, of which `FrameTooLarge` is one."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    if size > max_bytes:
        raise FrameTooLarge(size, max_bytes)
    body = stream.read(size)
    if len(body) < size:
        return None
    value = unpack(body, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise WireError("invalid_body", "a frame must be one msgpack map")
    return value
