"""Snapshots as bytes: a header, a schema version, a checksum, and msgpack; proven readable before they are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from zlib import crc32

from messages.wire import WireError, pack, unpack

MAX_SNAPSHOT_BYTES: Final = 64 << 20
"""Larger ones are refused: a state holds references, so a snapshot of this size is a defect."""
_MAGIC: Final = b"OS1"
_HEADER: Final = len(_MAGIC) + 2 + 4

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: Final[dict[int, Upcaster]] = {}
"""Schema version -> function that makes the plain form of the next version."""


class SnapshotCorrupt(ValueError):
    """These bytes are not the snapshot that was written."""


class SnapshotNewer(ValueError):
    """This snapshot was written by a newer version of the program."""


class SnapshotUnreadable(ValueError):
    """This state would not read back as it is: it is not stored."""


def seal(plain: dict[str, Any], *, schema: int) -> bytes:
    """Return plain data as a snapshot. Raises `SnapshotUnreadable` when it would not read back equal."""
    body = pack(plain)
    sealed = _MAGIC + schema.to_bytes(2, "big") + crc32(body).to_bytes(4, "big") + body
    try:
        if unpack(body, max_bytes=MAX_SNAPSHOT_BYTES) != plain:
            raise SnapshotUnreadable("the state does not read back equal")
    except WireError as error:
        raise SnapshotUnreadable(str(error)) from None
    return sealed


def unseal(data: bytes, *, schema: int) -> dict[str, Any]:
    """Return the plain data, brought up to `schema`. Raises `SnapshotCorrupt` or `SnapshotNewer`."""
    body = data[_HEADER:]
    if data[: len(_MAGIC)] != _MAGIC or crc32(body).to_bytes(4, "big") != data[_HEADER - 4 : _HEADER]:
        raise SnapshotCorrupt("the checksum does not match")
    version = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 2], "big")
    if version > schema:
        raise SnapshotNewer(f"schema {version} is newer than {schema}, the newest this program knows")
    try:
        plain: Any = unpack(body, max_bytes=MAX_SNAPSHOT_BYTES)
    except WireError as error:
        raise SnapshotCorrupt(str(error)) from None
    if not isinstance(plain, dict):
        raise SnapshotCorrupt("it holds no state")
    while version < schema:
        plain = UPCASTERS[version](plain)
        version += 1
    return dict(plain)
