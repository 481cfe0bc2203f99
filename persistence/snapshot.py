"""Snapshots as bytes: a header, a schema version, a checksum, and msgpack; proven readable before they are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from zlib import crc32

from pydantic_core import from_json, to_json

from messages.wire import WireError, pack, unpack

MAX_SNAPSHOT_BYTES: Final = 64 << 20
"""Larger ones are refused: a state holds references, so a snapshot of this size is a defect."""
_PACKED: Final = b"OS1"
_JSON: Final = b"OJ1"
"""Written when msgpack cannot hold the state: JSON, and so the inputs of a plan, has integers of any size."""
_HEADER: Final = len(_PACKED) + 2 + 4
"""Form, schema version, CRC-32 of version and body."""

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
    try:
        form, body = _encoded(plain)
        if _decoded(form, body) != plain:
            raise SnapshotUnreadable("the state does not read back equal")
    except SnapshotUnreadable:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise SnapshotUnreadable(str(error)) from None
    version = schema.to_bytes(2, "big")
    return form + version + _checksum(version, body) + body


def unseal(data: bytes, *, schema: int) -> dict[str, Any]:
    """Return the plain data, brought up to `schema`. Raises `SnapshotCorrupt` or `SnapshotNewer`."""
    # A row that was changed by hand can hold a text or a number instead of bytes.
    if not isinstance(data, bytes) or data[: len(_PACKED)] not in (_PACKED, _JSON):
        raise SnapshotCorrupt("it does not begin as a snapshot does")
    form, stamp, body = data[: len(_PACKED)], data[len(_PACKED) : _HEADER - 4], data[_HEADER:]
    if _checksum(stamp, body) != data[_HEADER - 4 : _HEADER]:
        raise SnapshotCorrupt("the checksum does not match")
    version = int.from_bytes(stamp, "big")
    if version > schema:
        raise SnapshotNewer(f"schema {version} is newer than {schema}, the newest this program knows")
    try:
        plain = _decoded(form, body)
    except (ValueError, RecursionError) as error:
        raise SnapshotCorrupt(str(error)) from None
    if not isinstance(plain, dict):
        raise SnapshotCorrupt("it holds no state")
    while version < schema:
        if version not in UPCASTERS:
            raise SnapshotCorrupt(f"nothing leads from schema {version} to {schema}")
        try:
            plain = UPCASTERS[version](plain)
        except Exception as error:  # it was written for the states of that time, and this is perhaps none
            reason = f"it cannot be brought from schema {version} to {version + 1}: {type(error).__name__}: {error}"
            raise SnapshotCorrupt(reason) from error
        version += 1
        if not isinstance(plain, dict):
            raise SnapshotCorrupt(f"brought from schema {version - 1} to {version} it is no state")
    return plain


def _encoded(plain: dict[str, Any]) -> tuple[bytes, bytes]:
    try:
        return _PACKED, pack(plain)
    except OverflowError:
        return _JSON, to_json(plain)


def _decoded(form: bytes, body: bytes) -> Any:
    if len(body) > MAX_SNAPSHOT_BYTES:
        raise WireError("too_large", f"{len(body)} bytes; at most {MAX_SNAPSHOT_BYTES} are taken")
    return unpack(body, max_bytes=MAX_SNAPSHOT_BYTES) if form == _PACKED else from_json(body)


def _checksum(version: bytes, body: bytes) -> bytes:
    return crc32(body, crc32(version)).to_bytes(4, "big")
