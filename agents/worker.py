"""The other side of `isolation="process"`: serves calls of one agent in a process of its own.

`python -m agents.worker SETUP` is told by SETUP, a JSON object, which function to serve and on which descriptors. That
comes from the daemon's configuration; nothing in a frame names code. Descriptor 0 is the lifeline (worker_guard.py).
What the agent prints goes to standard error, its standard input is empty, and no program it starts inherits the pipes.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from contextlib import suppress
from dataclasses import fields, replace
from importlib import import_module
from time import time
from typing import Any, BinaryIO, Final

from pydantic_core import from_json, to_json

from agents.call import arguments, finish
from agents.decorator import make_spec, spec_of
from agents.exception_facts import facts
from agents.frames import read_frame, write_frame
from agents.spec import AgentSpec, Types
from agents.worker_guard import fork_guarded
from messages.agent import RunNode
from messages.failure import clip

MAX_CALL: Final = 64 << 20
"""Bytes of a call: its inputs are results of other agents, each of which has its own limit."""
_FIELDS: Final = tuple(field.name for field in fields(RunNode) if field.name != "inputs")


def main(setup: dict[str, Any]) -> None:
    """Serve until the input ends."""
    calls_fd, answers_fd = setup["calls"], setup["answers"]
    _set_limits(setup["limits"])
    fork_guarded(0, (calls_fd, answers_fd))
    _seal(calls_fd, answers_fd)
    os.register_at_fork(after_in_child=lambda: _cut_off(calls_fd, answers_fd))
    with suppress(BrokenPipeError), os.fdopen(calls_fd, "rb") as calls, os.fdopen(answers_fd, "wb") as answers:
        try:
            spec = _load(setup)
        except BaseException as error:  # noqa: BLE001  # a module may raise anything while it is imported
            write_frame(answers, {"error": facts(error)})
            return
        gc.freeze()  # what is loaded stays: no collection needs to look at it again
        write_frame(answers, {"ready": os.getpid()})
        while (frame := read_frame(calls, max_bytes=MAX_CALL)) is not None:
            max_bytes = frame.pop("max_bytes")
            if not _serve(spec, call_from(frame), answers, max_bytes, setup.get("memory_mb")):
                return


def call_frame(call: RunNode, max_bytes: int) -> dict[str, Any]:
    """Return a call as plain data, with the size of result it may have.

    Inputs travel as JSON, whose numbers have no limit.
    """
    frame = {name: getattr(call, name) for name in _FIELDS}
    return {**frame, "inputs": to_json(call.inputs), "max_bytes": max_bytes}


def call_from(frame: dict[str, Any]) -> RunNode:
    """Return the call in a frame, from which the size was taken."""
    return RunNode(**{**frame, "inputs": from_json(frame["inputs"])})


def _serve(spec: AgentSpec, call: RunNode, answers: BinaryIO, max_bytes: int, memory_mb: int | None = None) -> bool:
    """Make one call; return whether this process can make another."""
    answer: dict[str, Any]
    usable = open_ = True
    writing = threading.Lock()
    served_by = os.getpid()

    def progress(text: str) -> None:
        with writing:
            if open_:  # a thread that the agent left behind has nothing more to say
                write_frame(answers, {"progress": clip(text)})

    try:
        _bind_log(call)
        given = arguments(spec, call, progress=progress, deadline=time() + call.timeout)
        _data, body = finish(spec, spec.function(**given), max_bytes)
        answer = {"result": body}
    except BaseException as error:  # noqa: BLE001  # whatever escapes is told to the daemon
        # After these the process cannot be trusted: something wanted it to end, or its memory is full.
        usable = isinstance(error, Exception) and not isinstance(error, MemoryError)
        if isinstance(error, MemoryError) and memory_mb is not None:
            error = MemoryError(
                f"{call.agent} may have {memory_mb} MB, its memory_mb, and wanted more"
            )  # the same, with what a person can change
        answer = {"error": facts(error, transient=spec.transient, permanent=spec.permanent)}
    if os.getpid() != served_by:
        # The agent forked and both came back. A second answer would be taken for that of the next call.
        os._exit(0)
    with suppress(OSError, ValueError, AttributeError):  # the agent may have closed or replaced it
        sys.stdout.flush()
    with writing:
        open_ = False
        write_frame(answers, {**answer, "usable": usable})
    return usable


def _load(setup: dict[str, Any]) -> AgentSpec:
    function = _named(setup["function"])
    spec = spec_of(function) or make_spec(function, {})
    return replace(
        spec,
        name=setup["agent"],
        transient=_types(setup["transient"]),
        permanent=_types(setup["permanent"]),
    )


def _types(names: list[str]) -> Types:
    return tuple(_named(name) for name in names)


def _named(name: str) -> Any:
    module, _, qualname = name.partition(":")
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _bind_log(call: RunNode) -> None:
    """Give the agent's own log lines the ids of their call, if it logs with structlog at all."""
    if "structlog" not in sys.modules:
        return
    context: Any = import_module("structlog.contextvars")
    context.clear_contextvars()
    context.bind_contextvars(
        conversation_id=call.conversation_id,
        request_id=call.request_id,
        node_id=call.node,
        agent=call.agent,
        attempt=call.attempt,
    )


def _set_limits(limits: dict[str, int]) -> None:
    """Set resource limits by name, `RLIMIT_AS` and others; programs the agent starts inherit them."""
    for name, most in limits.items():
        kind = getattr(resource, name)
        _soft, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _cut_off(*private: int) -> None:
    """Leave a copy of this process without the pipes: calls are for one to read, and answers for one to give."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in private:
        os.dup2(nothing, descriptor, inheritable=False)  # closed, its number would go to a file of the agent's
    os.close(nothing)


def _seal(*private: int) -> None:
    for descriptor in private:
        os.set_inheritable(descriptor, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)


if __name__ == "__main__":
    main(from_json(sys.argv[1]))
