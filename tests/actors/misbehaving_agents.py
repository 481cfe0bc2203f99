"""Agents that behave and misbehave, for the tests of execution; worker processes import them by this module's name."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog

from agents import Context, PermanentError, TransientError, agent

RELEASE = threading.Event()
"""What blocking agents wait for: the test that started one sets it at its end."""
HOLDING = threading.Event()
"""`block_loop` has the event loop."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Quota(Exception):
    """Nobody knows it but the agent's own lists."""


class TooMany(Exception):
    """As an HTTP client's error with its response."""

    def __init__(self) -> None:
        super().__init__("slow down")
        self.response = SimpleNamespace(status_code=429, headers={"Retry-After": "7"})


RAISED: dict[str, Any] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": asyncio.CancelledError,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration(1),
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), ConnectionError("b")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("bad", [SystemExit(1)]),
    "Unprintable": Unprintable,
    "ValueError": lambda: ValueError("wrong"),
    "KeyError": lambda: KeyError("sku"),
    "ConnectionResetError": lambda: ConnectionResetError(104, "reset"),
    "Quota": lambda: Quota("used up"),
    "TooMany": TooMany,
    "TransientError": lambda: TransientError("later", retry_after=3.5),
    "PermanentError": lambda: PermanentError("never"),
    "huge": lambda: ValueError("x" * 5_000_000),
}


def _raised(kind: str) -> BaseException:
    error: BaseException = RAISED[kind]()
    return error


@agent
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@agent
async def add_async(a: int, b: int = 1) -> int:
    """Add, on the loop."""
    return a + b


@agent(isolation="process")
def add_process(a: int, b: int = 1) -> int:
    """Add, in a process."""
    return a + b


@agent
def fail(kind: str) -> int:
    """Raise."""
    raise _raised(kind)


@agent
async def fail_async(kind: str) -> int:
    """Raise, on the loop."""
    raise _raised(kind)


@agent
async def fail_in_subtask(kind: str) -> int:
    """Raise out of a task that the agent began itself."""

    async def inner() -> int:
        raise _raised(kind)

    return await asyncio.create_task(inner())


@agent(isolation="process", permanent=(Quota,))
def fail_process(kind: str) -> int:
    """Raise, in a process."""
    raise _raised(kind)


@agent
def block() -> str:
    """Wait for the test's release."""
    RELEASE.wait(30)
    return "late"


@agent
async def block_loop() -> str:
    """Hold the event loop until the test's release."""
    HOLDING.set()
    RELEASE.wait(30)
    return "late"


@agent
async def block_loop_in_subtask() -> str:
    """Hold the loop from a task of its own."""

    async def inner() -> str:
        RELEASE.wait(30)
        return "late"

    return await asyncio.ensure_future(inner())


@agent
def hold_interpreter() -> str:
    """Call C code that keeps the interpreter's lock, as a regular expression can."""
    ctypes.PyDLL(None).usleep(400_000)
    return "done"


@agent
async def wait_async() -> str:
    """Wait as long as it is let."""
    await asyncio.Event().wait()
    return "never"


@agent
async def to_thread() -> str:
    """Block in a thread of asyncio's."""
    await asyncio.to_thread(RELEASE.wait, 30)
    return "late"


@agent
async def stubborn() -> str:
    """Take no notice of being cancelled."""
    while not RELEASE.is_set():
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            continue
    return "late"


@agent
def told(ctx: Context) -> dict[str, Any]:
    """Report what structlog would put on each line, and how far it is."""
    ctx.progress("half way")
    return {**structlog.contextvars.get_contextvars(), "key": ctx.idempotency_key}


@agent
async def told_async(ctx: Context) -> dict[str, Any]:
    """As `told`, on the loop."""
    ctx.progress("half way")
    await asyncio.sleep(0)
    return {**structlog.contextvars.get_contextvars(), "key": ctx.idempotency_key}


@agent(isolation="process")
def told_process(ctx: Context) -> dict[str, Any]:
    """As `told`, in a process."""
    ctx.progress("half way")
    return {**structlog.contextvars.get_contextvars(), "key": ctx.idempotency_key}


@agent
def chatty(ctx: Context) -> int:
    """Report far too often."""
    for number in range(5000):
        ctx.progress(f"step {number}")
    return 1


@agent
def wrong() -> int:
    """Break its own contract."""
    return "many"  # type: ignore[return-value]  # that is the point


@agent(isolation="process")
def pid() -> int:
    """Tell which process this is."""
    return os.getpid()


@agent(isolation="process")
def environment() -> dict[str, str]:
    """Tell the environment."""
    return dict(os.environ)


@agent(isolation="process")
def descriptors() -> list[int]:
    """Tell the open descriptors that a program started here would inherit."""
    code = "import os; print(*[fd for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}')])"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, close_fds=False)
    return [int(fd) for fd in listed.stdout.split()]


@agent(isolation="process")
def flood() -> str:
    """Print without end, well, almost."""
    for _ in range(200):
        sys.stdout.write("o" * 9999 + "\n")
        sys.stderr.write("e" * 9999 + "\n")
    os.write(1, b"raw")
    return sys.stdin.read() if sys.stdin else "closed"


@agent(isolation="process")
def die(how: str) -> int:
    """End the process in mid-call."""
    sys.stderr.write("goodbye\n")
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))
    return 0


@agent(isolation="process")
def hang(path: str) -> int:
    """Hang for ever, deaf to SIGTERM, with a child and a grandchild in a session of its own; say their ids."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os.setsid()\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')\n"
        "time.sleep(600)\n"
    )
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n{os.getppid()}\n")
    subprocess.Popen([sys.executable, "-c", code, path])
    while True:
        time.sleep(60)


@agent(isolation="process")
def leave_child(path: str) -> int:
    """Return at once but leave a child behind."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(f"{child.pid}\n")
    return child.pid


@agent
def split_thread() -> int:
    """Fork the daemon, let both come back, and say how the copy ended."""
    copy = os.fork()
    return 0 if copy == 0 else os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])


@agent(isolation="process")
def split(how: str, ctx: Context) -> str:
    """Fork, and let both come back."""
    if os.fork() == 0:
        ctx.progress("from the copy")
        if how == "raise":
            raise SystemExit(3)
        return "from the copy"
    os.wait()
    return "from the worker"


@agent(isolation="process")
def large(size: int) -> str:
    """Return a text of this size."""
    return "x" * size


@agent(isolation="process")
def shout(size: int) -> int:
    """Answer by itself with a frame of this size."""
    answers = json.loads(sys.argv[1])["answers"]
    os.write(answers, struct.pack(">I", size))
    return 0


@agent(isolation="process")
def long_winded(ctx: Context) -> int:
    """Report far too much at once, and what cannot be encoded."""
    for what in ("x" * 10_000_000, "a\ud800"):
        ctx.progress(what)
    return 1


@agent(isolation="process", memory_mb=300)
def die_limited(how: str) -> int:
    """End the process in mid-call, under a limit of memory."""
    if how == "exit":
        sys.stderr.write("MemoryError\n")
        os._exit(1)
    os.kill(os.getpid(), getattr(signal, how))
    return 0


@agent(isolation="process")
def echo(value: Any) -> Any:
    """Return it."""
    return value


@agent(isolation="process", memory_mb=256)
def greedy(megabytes: int) -> int:
    """Take so many megabytes at once."""
    return len(bytearray(megabytes << 20))


@agent(isolation="process", environment=("ORCHESTRATOR_TEST_KEY",))
def keyholder(variable: str) -> str | None:
    """Say what a variable holds."""
    return os.environ.get(variable)
