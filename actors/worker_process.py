"""The daemon's side of one worker process of an agent with `isolation="process"`; the other is agents/worker.py."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final

from pydantic_core import to_json

from actors.bounds import Bounds
from actors.remote_error import RemoteError
from agents.errors import ResultTooLarge
from agents.frames import FrameTooLarge, read_frame, write_frame
from agents.spec import AgentSpec, Types
from agents.worker import MAX_CALL, call_frame
from messages.agent import RunNode
from messages.failure import clip
from messages.wire import WireError

ENVIRONMENT: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
        *("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "PYTHONHASHSEED", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    }
)
"""All that every worker gets of the daemon's environment: nothing that could be a secret. An agent may name more."""
LIMITS: Final = {"RLIMIT_CORE": 0}
"""Resource limits of every worker. No core files: they would hold what users wrote."""
_FRAME_SLACK: Final = 1 << 20
"""Bytes an answer may have beyond its result: room for a long progress text or error."""
_OUTPUT_LINE: Final = 4096
"""Bytes of one line of output that are kept."""


class WorkerDied(Exception):
    """The worker process ended, or could not go on, in the middle of a call."""

    error_class = "transient"
    error_type = "worker_died"


class WorkerProcess:
    """One process, with the one agent it serves.

    Its owner is the thread that made it and that makes the calls, one at a time. `kill` may come from any thread.
    Raises `OSError` when no process can be started.
    """

    def __init__(self, spec: AgentSpec, *, bounds: Bounds, output: Callable[[str], None]) -> None:
        self._agent = spec.name
        self._memory_mb = spec.memory_mb
        self._bounds = bounds
        self._max_bytes = bounds.result_bytes
        self._output = output
        self._tail: deque[str] = deque(maxlen=1)
        calls_read, calls_write = os.pipe()
        answers_read, answers_write = os.pipe()
        self._calls: BinaryIO = os.fdopen(calls_write, "wb")
        self._answers: BinaryIO = os.fdopen(answers_read, "rb")
        setup = {
            "agent": spec.name,
            "function": f"{spec.module}:{spec.qualname}",
            "transient": _names(spec.transient),
            "permanent": _names(spec.permanent),
            "limits": LIMITS if spec.memory_mb is None else {**LIMITS, "RLIMIT_DATA": spec.memory_mb << 20},
            "memory_mb": spec.memory_mb,
            "calls": calls_read,
            "answers": answers_write,
        }
        try:
            self._process = subprocess.Popen(  # noqa: S603  # a fixed program; SETUP comes from the configuration
                # -P: the working directory is no place to import from.
                [sys.executable, "-P", "-m", "agents.worker", to_json(setup).decode()],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(spec.environment),
                pass_fds=(calls_read, answers_write),
                start_new_session=True,
            )
        except BaseException:
            self._calls.close()
            self._answers.close()
            raise
        finally:
            os.close(calls_read)
            os.close(answers_write)
        self.pid: int | None = None
        """Of the process that runs the agent's code, once it is ready."""
        self.killed = False
        self._drain = threading.Thread(target=self._read_output, name=f"output-of-{spec.name}", daemon=True)
        self._drain.start()

    def wait_ready(self) -> None:
        """Return when the agent is imported. Raises `WorkerDied`, or `RemoteError` when the import fails."""
        answer = self._read()
        if "error" in answer:
            raise RemoteError(answer["error"])
        self.pid = answer.get("ready")

    def call(self, call: RunNode, progress: Callable[[str], None], now_s: float) -> tuple[bytes, bool]:
        """Make one call; return the result's JSON and whether the process can make another.

        Raises `RemoteError` with the same said in `usable`, `WorkerDied`, or `ResultTooLarge`.
        """
        self._max_bytes = self._bounds.result_bytes
        frame = call_frame(call, self._max_bytes)
        if len(frame["inputs"]) > MAX_CALL - _FRAME_SLACK:
            raise ResultTooLarge(f"{call.agent}: the inputs have {len(frame['inputs'])} bytes, too many for a process")
        try:
            write_frame(self._calls, frame)
        except (OSError, ValueError) as error:
            raise WorkerDied(f"the agent's process {self._how_it_ended()}") from error
        while True:
            answer = self._read()
            usable = answer.get("usable") is True
            if isinstance(answer.get("error"), dict):
                remote = RemoteError(answer["error"], now_s=now_s)
                remote.usable = usable
                raise remote
            if isinstance(answer.get("result"), bytes):
                return answer["result"], usable
            progress(str(answer.get("progress", "")))

    def kill(self) -> None:
        """End the process and all it started, now and without a chance to clean up: its attempt is over.

        Closing the lifeline makes the guard kill the group; see agents/worker_guard.py.
        """
        self.killed = True
        lifeline = self._process.stdin
        assert lifeline is not None
        lifeline.close()

    def kill_guard(self) -> None:
        """End a process whose guard did not obey `kill`; nothing happens when it did."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    def close(self, grace: float, *, last: float = 5.0) -> bool:
        """End the process, letting it finish its exit handlers for `grace` seconds; return whether it has ended.

        `last` is how many seconds its guard is given after that.
        """
        with contextlib.suppress(OSError):
            self._calls.close()
        ended = not self.killed and self._ended(grace)
        self.kill()
        if not ended and not self._ended(last):
            self.kill_guard()
            ended = self._ended(1.0)
        self._answers.close()
        self._drain.join(1.0)
        return ended or self._process.returncode is not None

    def _ended(self, timeout: float) -> bool:
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _read(self) -> dict[str, Any]:
        try:
            answer = read_frame(self._answers, max_bytes=self._max_bytes + _FRAME_SLACK)
        except WireError as error:
            self.kill()
            if self.pid is not None and isinstance(error, FrameTooLarge):
                raise ResultTooLarge(f"{self._agent}: {error}") from error
            raise WorkerDied(f"the agent's process sent what is no answer: {error}") from error
        except (OSError, ValueError) as error:
            raise WorkerDied(f"the agent's process {self._how_it_ended()}") from error
        if answer is None:
            raise WorkerDied(f"the agent's process {self._how_it_ended()}")
        return answer

    def _how_it_ended(self) -> str:
        if not self._ended(1.0):
            return "broke off"
        self._drain.join(0.5)
        code = self._process.returncode
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
        if self._memory_mb is not None:  # what gets no memory often dies of it without a word
            how = f"{how} (its memory_mb is {self._memory_mb})"
        return f"{how}; its last words: {self._tail[0]}" if self._tail else how

    def _read_output(self) -> None:
        """Read what the agent prints, however much, so that it never waits for a reader."""
        stream = self._process.stderr
        assert stream is not None
        with stream, open(stream.fileno(), "rb", closefd=False) as lines:
            whole = True
            while line := lines.readline(_OUTPUT_LINE):
                text = clip(line.decode("utf-8", "replace").strip())
                if whole and text:
                    self._tail.append(text)
                    self._output(text)
                whole = line.endswith(b"\n")


def _names(types: Types) -> list[str]:
    return [f"{kind.__module__}:{kind.__qualname__}" for kind in types]


def _environment(more: Sequence[str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ENVIRONMENT or name in more}
    kept["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100  # an empty entry means here
    return kept


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
