"""The other side of `isolation="process"`: serves calls of one agent in a process of its own.

`python -m agents.worker MODULE QUALNAME NAME MAX_BYTES IN OUT` reads frames from descriptor IN and answers on OUT. A
frame is four bytes of length and msgpack. Which function runs is decided by the command line, taken from the
daemon's configuration; nothing in a frame names code. The agent's own standard output goes to standard error.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from dataclasses import asdict, replace
from importlib import import_module
from time import time
from typing import Any, BinaryIO

from agents.call import arguments, finish
from agents.decorator import make_spec, spec_of
from agents.spec import AgentSpec
from messages.agent import RunNode
from messages.wire import pack, unpack

LENGTH = struct.Struct(">I")
MAX_FRAME = 64 << 20
_PR_SET_PDEATHSIG = 1
_SHOWN = ("status_code", "status", "code", "retry_after", "sqlstate", "errno", "error_class", "error_type")
"""Attributes of an exception that supervision reads; they travel with it."""


def main(argv: list[str]) -> int:
    """Serve until the input ends."""
    module, qualname, name, max_bytes, source, sink = argv
    _die_with_parent()
    os.dup2(2, 1)
    with os.fdopen(int(source), "rb") as calls, os.fdopen(int(sink), "wb") as answers:
        spec = _load(module, qualname, name)
        _write(answers, {"ready": True})
        while (frame := read_frame(calls)) is not None:
            _serve(spec, frame, answers, int(max_bytes))
    return 0


def read_frame(stream: BinaryIO) -> Any:
    """Return the next frame's data, or None at the end."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    return unpack(stream.read(size), max_bytes=MAX_FRAME)


def frame(value: Any) -> bytes:
    """Return data as a frame."""
    body = pack(value)
    return LENGTH.pack(len(body)) + body


def run_fields(call: RunNode) -> dict[str, Any]:
    """Return a call as plain data."""
    return asdict(call)


def _serve(spec: AgentSpec, fields: dict[str, Any], answers: BinaryIO, max_bytes: int) -> None:
    call = RunNode(**fields)

    def progress(text: str) -> None:
        _write(answers, {"progress": str(text)})

    try:
        bound = arguments(spec, call, progress=progress, deadline=time() + call.timeout)
        _data, body = finish(spec, spec.function(**bound), max_bytes)
        answer: dict[str, Any] = {"result": body}
    except BaseException as error:  # noqa: BLE001  # whatever escapes is told to the daemon
        answer = {"error": describe(spec, error)}
        if not isinstance(error, Exception):
            _write(answers, answer)
            raise SystemExit(1) from None
    _write(answers, answer)


def describe(spec: AgentSpec, error: BaseException) -> dict[str, Any]:
    """Return an exception as plain data, with what supervision reads of it."""
    try:
        text = str(error)[:500]
    except BaseException:  # noqa: BLE001  # an exception whose text cannot be had
        text = "(its text cannot be shown)"
    shown: dict[str, Any] = {"type": type(error).__name__, "text": text.encode("utf-8", "replace").decode()}
    shown["types"] = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    for key in _SHOWN:
        value = getattr(error, key, None)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            shown[key] = value
    if isinstance(error, spec.permanent):
        shown["error_class"] = "permanent"
    elif isinstance(error, spec.transient):
        shown["error_class"] = "transient"
    return shown


def _write(stream: BinaryIO, value: Any) -> None:
    stream.write(frame(value))
    stream.flush()


def _load(module: str, qualname: str, name: str) -> AgentSpec:
    function: Any = import_module(module)
    for part in qualname.split("."):
        function = getattr(function, part)
    spec = spec_of(function) or make_spec(function, {})
    return replace(spec, name=name)


def _die_with_parent() -> None:
    """Be killed when the daemon dies, however it dies (Linux); elsewhere the end of the input does it."""
    parent = os.getppid()
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
