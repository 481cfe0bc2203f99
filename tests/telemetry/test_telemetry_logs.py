"""Log lines: one JSON object each, from any thread, never in the way, never with a secret."""

from __future__ import annotations

import io
import json
import logging
import os
import select
import threading
import warnings

import pytest
import structlog

from telemetry import Telemetry, exception_lines, routed


@pytest.fixture
def lines():
    """Make telemetries that write to memory; `lines(t)` reads what one has written."""
    made: list[tuple[Telemetry, io.StringIO]] = []

    def make(**options):
        stream = io.StringIO()
        telemetry = Telemetry(stream=stream, **options)
        made.append((telemetry, stream))
        return telemetry

    def text(telemetry):
        assert telemetry.flush(10)
        return next(stream for each, stream in made if each is telemetry).getvalue()

    def read(telemetry):
        return [json.loads(line) for line in text(telemetry).splitlines()]

    make.read = read
    make.text = text
    yield make
    for telemetry, _ in made:
        telemetry.close()


def test_a_line_is_one_json_object_with_what_everybody_looks_for_in_front(lines):
    """Timestamp, level, event, ids, the rest."""
    telemetry = lines(now=lambda: 1_795_200_000.1234)
    telemetry.log(
        "agent_call", success=True, duration_ms=1.5, conversation_id="c1", node_id="n", agent="stock", attempt=1
    )
    (line,) = lines.text(telemetry).splitlines()
    assert list(json.loads(line))[:7] == [
        "timestamp",
        "level",
        "event",
        "conversation_id",
        "node_id",
        "agent",
        "attempt",
    ]
    assert json.loads(line)["timestamp"] == "2026-11-20T18:40:00.123Z"
    assert json.loads(line) | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "agent_call",
        "conversation_id": "c1",
        "node_id": "n",
        "agent": "stock",
        "attempt": 1,
        "success": True,
        "outcome": "success",
        "duration_ms": 1.5,
    }


def test_eight_threads_write_whole_lines_and_each_in_its_order(lines):
    """Nothing is torn, mixed or lost."""
    telemetry = lines()

    def work(thread):
        for number in range(300):
            telemetry.log("state_transition", actor=f"t{thread}", seq=number, trigger="ünï\n\x1b[31m" * 5)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = lines.read(telemetry)
    assert len(written) == 2_400
    for number in range(8):
        assert [line["seq"] for line in written if line["actor"] == f"t{number}"] == list(range(300))


def test_bound_ids_go_along(lines):
    """Bound in the calling context, overridden by what the call itself says."""
    telemetry = lines()
    with structlog.contextvars.bound_contextvars(conversation_id="c1", request_id="r1"):
        telemetry.log("recovered", request_id="r2")
    telemetry.log("recovered")
    first, second = lines.read(telemetry)
    assert (first["conversation_id"], first["request_id"]) == ("c1", "r2")
    assert "conversation_id" not in second


def test_levels_and_trace_all_decide_what_is_written(lines):
    """What is notable, or a warning, is written even when not everything is traced."""
    telemetry = lines(level="INFO")
    for _ in range(2):
        telemetry.log("conversation_woken")  # debug
        telemetry.log("state_transition")  # info, not notable
        telemetry.log("reply_sent")  # info, notable
        telemetry.log("message_accepted", level="warning")
        telemetry.log("message_refused")  # warning
        telemetry.configure(trace_all=False)
    telemetry.configure(level="ERROR")
    telemetry.log("message_refused")
    telemetry.log("error")
    telemetry.configure(level="DEBUG", trace_all=True)
    telemetry.log("conversation_woken")
    quiet = ["reply_sent", "message_accepted", "message_refused"]
    events = [line["event"] for line in lines.read(telemetry)]
    assert events == ["state_transition", *quiet, *quiet, "error", "conversation_woken"]


def test_an_event_nobody_catalogued_is_still_written(lines):
    """As a warning: a slip in our code must not hide what happened."""
    telemetry = lines()
    telemetry.log("no_such_event", x=1)
    assert [(line["event"], line["level"]) for line in lines.read(telemetry)] == [("no_such_event", "warning")]


def test_an_unknown_level_is_refused_when_set_and_survived_when_logged(lines):
    """Settings are checked; a log call never raises."""
    with pytest.raises(ValueError, match="level must be one of"):
        lines(level="LOUD")
    telemetry = lines()
    telemetry.log("error", level="loud")
    assert lines.read(telemetry)[0]["level"] == "warning"


def test_readable_text_when_structured_logging_is_off(lines):
    """A head, then key=value; a traceback below."""
    telemetry = lines(structured=False, now=lambda: 0.0)
    telemetry.log("error", agent="stock", error_message='a "b" c', exception=["Traceback:", "\x1b[31m  boom"])
    assert lines.text(telemetry).splitlines() == [
        '1970-01-01T00:00:00.000Z ERROR    error agent=stock error_message="a \\"b\\" c"',
        "    Traceback:",
        "      boom",
    ]


MARK = "MARK-4711-secret"


def test_a_known_secret_never_appears(lines):
    """In fields, keys, tracebacks, library messages, bound ids, stored rows, in either format."""
    rows: list[dict] = []
    for structured in (True, False):
        telemetry = lines(
            structured=structured, level="DEBUG", secrets=[MARK], sink=lambda more: rows.extend(more) or len(more)
        )
        with routed(telemetry), structlog.contextvars.bound_contextvars(user=MARK):
            telemetry.log("error", error_message=f"x{MARK}y", where={MARK: [MARK]}, api_token=MARK, error_type=MARK)
            logging.getLogger("lib").error("failed with %s", MARK)
            structlog.get_logger().warning("caution", message=MARK)
            try:
                local = MARK
                raise ValueError(local)
            except ValueError as error:
                telemetry.log("error", exception=exception_lines(error), error_message=error)
            telemetry.log(MARK)
        text = lines.text(telemetry)
        assert MARK not in text and text.count("***") >= 8
    assert rows and MARK not in repr(rows)


def test_tracebacks_come_without_locals():
    """Locals hold what should not be told."""
    try:
        hidden = "local" + "-value"
        raise ValueError(len(hidden))
    except ValueError as error:
        text = "\n".join(exception_lines(error))
    assert "ValueError: 11" in text and "local-value" not in text


def test_the_libraries_loggers_are_routed_and_put_back(lines):
    """Standard library, warnings, structlog, exceptions of threads: one stream, one form."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, threading.excepthook, structlog.is_configured())
    telemetry = lines()
    with routed(telemetry):
        logging.getLogger("uvicorn.error").warning("slow %d", 3)
        logging.getLogger("uvicorn.error").info("chatter")
        logging.getLogger("odd").error("does not fit %d", "x")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        structlog.get_logger().bind(request_id="r").info("recovered", seq=1)
        try:
            raise KeyError("k")
        except KeyError:
            logging.getLogger("lib").exception("went wrong")
        thread = threading.Thread(target=lambda: 1 / 0, name="t9")
        thread.start()
        thread.join()
    assert (root.handlers, root.level, threading.excepthook, structlog.is_configured()) == before
    slow, odd, warned, recovered, wrong, died = lines.read(telemetry)
    assert (slow["event"], slow["logger"], slow["message"], slow["level"]) == (
        "library_message",
        "uvicorn.error",
        "slow 3",
        "warning",
    )
    assert "does not fit" in odd["message"] and "TypeError" in odd["message"]
    assert "DeprecationWarning" in warned["message"]
    assert (recovered["event"], recovered["request_id"], recovered["level"]) == ("recovered", "r", "info")
    assert wrong["exception"][-1] == "KeyError: 'k'"
    assert (died["event"], died["thread"], died["error_type"]) == ("thread_failed", "t9", "ZeroDivisionError")


class Gate(io.StringIO):
    """A stream whose reader has stopped, until `opened` is set."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.opened = threading.Event()

    def write(self, text):
        self.entered.set()
        assert self.opened.wait(10)
        return super().write(text)


def test_what_the_queue_cannot_hold_is_counted_and_said():
    """The caller never waits for a slow reader."""
    stream = Gate()
    telemetry = Telemetry(stream=stream, queue_limit=10)
    telemetry.log("daemon_started")
    assert stream.entered.wait(10)
    for _ in range(25):
        telemetry.log("recovered")
    assert telemetry.figures()["log_lines_dropped"] == 15
    stream.opened.set()
    telemetry.flush(10)
    telemetry.close()
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in written] == ["daemon_started", *["recovered"] * 10, "log_lines_dropped"]
    assert (written[-1]["count"], written[-1]["reason"]) == (15, "queue_full")
    assert b"orchestrator_log_lines_dropped_total 15.0" in telemetry.metrics_text()


@pytest.mark.parametrize("kind", ["pipe", "closed stream", "none"])
def test_a_broken_stderr_costs_the_lines_and_nothing_else(kind, monkeypatch):
    """Nobody reads the pipe any more, the stream is closed, there is none: work goes on, lines are counted."""
    if kind == "pipe":
        reader, writer = os.pipe()
        stream = os.fdopen(writer, "w")
        os.close(reader)
    elif kind == "closed stream":
        stream = io.StringIO()
        stream.close()
    else:
        stream = None
        monkeypatch.setattr("sys.stderr", None)
    telemetry = Telemetry(stream=stream)
    for _ in range(3):
        telemetry.log("recovered")
        assert telemetry.flush(10)
    assert telemetry.figures()["log_lines_failed"] == 3
    telemetry.close()
    if kind == "pipe":
        stream.close()


def drain(reader):
    text = b""
    while select.select([reader], [], [], 0)[0]:
        text += os.read(reader, 1 << 20)
    return text


def test_a_reader_that_stops_for_a_while_gets_the_later_lines_and_is_told_of_the_lost_ones():
    """A full pipe is not waited for; when it moves again, the log goes on at a fresh line."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    telemetry = Telemetry(stream=stream)
    try:
        while not telemetry.figures()["log_lines_failed"]:
            for _ in range(100):
                telemetry.log("error", error_message="x" * 1_000)
            assert telemetry.flush(10), "the writer's thread is stuck"
        text = b""
        for round_ in range(3):
            text += drain(reader)
            if round_ < 2:
                telemetry.log("recovered", seq=round_)
                assert telemetry.flush(10)
    finally:
        telemetry.close()
        stream.close()
        os.close(reader)
    whole = []
    for line in text.decode().splitlines():
        try:
            whole.append(json.loads(line))
        except ValueError:
            whole.append({"event": "torn"})
    tail = [line["event"] for line in whole if line["event"] != "error"]
    assert [event for event in tail if event != "torn"] == ["log_lines_dropped", "recovered", "recovered"]
    assert tail.count("torn") <= 1
    said = next(line for line in whole if line["event"] == "log_lines_dropped")
    assert said["reason"] == "not_written" and said["count"] == telemetry.figures()["log_lines_failed"]


def test_a_closed_descriptor_two_does_not_receive_our_lines(tmp_path):
    """The next file opened may get its number: our lines must not end up in somebody's database."""
    first = (tmp_path / "log").open("w")
    telemetry = Telemetry(stream=first)
    number = first.fileno()
    first.close()
    other = os.open(tmp_path / "database", os.O_CREAT | os.O_WRONLY)
    assert other == number
    telemetry.log("recovered")
    telemetry.close()
    os.close(other)
    assert (tmp_path / "database").read_bytes() == b""
    assert "recovered" in (tmp_path / "log").read_text()


def test_closing_writes_what_waits_and_later_calls_are_counted(lines):
    """Twice is harmless."""
    telemetry = lines()
    for _ in range(500):
        telemetry.log("recovered")
    telemetry.close()
    telemetry.close()
    telemetry.log("recovered")
    assert telemetry.figures()["log_lines_dropped"] == 1


def test_an_entry_that_cannot_be_rendered_does_not_end_the_log(lines, monkeypatch):
    """It is counted; the next one is written."""
    telemetry = lines()
    telemetry.log("recovered", seq=10**5_000)
    telemetry.log("recovered", seq=2)
    assert [line["seq"] for line in lines.read(telemetry)] == [2]
    assert telemetry.figures()["log_lines_unreadable"] == 1


class Hostile(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError

    def lower(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("reply_sent", {"status": Hostile("x")}),
        ("error", {"level": Hostile("x")}),
        ("error", {"level": 7}),
        (["error"], {}),
        (None, {"self": 1, "event": 2}),
    ],
)
def test_a_log_call_never_raises(lines, event, fields):
    """Whatever it is given; the next one is written."""
    telemetry = lines()
    telemetry.log(event, **fields)
    telemetry.log("recovered", seq=1)
    assert lines.read(telemetry)[-1]["seq"] == 1
