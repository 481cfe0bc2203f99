"""The command line beside terminals, pipes and odd bytes, as a process of its own where that matters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.rendering import event_line
from cli.terminal import one_line, safe

ROOT = Path(__file__).parents[2]


def test_texts_are_made_safe_for_terminals():
    nasty = "a\x1b[31m\x9b\x07\u202eb\u2066c\r\nd\te\ud800"
    assert safe(nasty) == "a\ufffd[31m\ufffd\ufffd\ufffdb\ufffdc\ufffd\nd\te\ufffd"
    assert one_line("x\n" * 500, 10) == "x x x x x…"
    assert "\x1b" not in event_line({"seq": 1, "type": "t", "text": "\x1b[2J", "data": {"k": "\x9b2J"}})


PROGRAM = (
    "import sys; from cli import Commands, main; none = lambda *a, **k: 0; "
    "sys.exit(main(Commands(none, none, none, none, none, none)))"
)
"""The command line without a daemon behind it, as a process."""
NO_UTF8 = "caf\udce9"
"""What Python makes of a command line's bytes that are no UTF-8."""


@pytest.mark.parametrize(
    "arguments",
    [("send", "c1", NO_UTF8), ("cancel", "c1", "--reason", NO_UTF8), ("conversations", "--where", f"phase={NO_UTF8}")],
    ids=lambda arguments: arguments[0],
)
def test_bytes_that_are_no_utf8_are_a_usage_error_in_words(orch, arguments):
    result = orch(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: a text is not valid Unicode: it holds bytes that are no UTF-8 (invalid_field)\n"


def test_a_line_that_is_no_utf8_does_not_end_the_chat(server, router, tmp_path):
    router.echo = True
    done = _real("chat", "c1", url=server.url, cwd=tmp_path, input=b"caf\xe9\nhello\n", capture_output=True)
    assert done.returncode == 0
    assert b"no UTF-8" in done.stderr
    assert [message.text for message in router.submitted] == ["hello"]


@pytest.mark.parametrize(("verb", "expected"), [(("conversations",), 0), (("show", "nope"), 3), (("chat", "c2"), 0)])
def test_closed_standard_streams_change_no_exit_code(server, router, tmp_path, verb, expected):
    """As `orch show nope <&- >&- 2>&-` does."""
    shut = _real(*verb, url=server.url, cwd=tmp_path, preexec_fn=lambda: [os.close(number) for number in range(3)])
    assert shut.returncode == expected


def test_a_result_that_cannot_be_printed_is_a_failure_in_words(server, router, tmp_path):
    with Path("/dev/full").open("wb") as full:
        done = _real("status", url=server.url, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"error: the result could not be printed: No space left on device\n"


def _real(*arguments, url, cwd, **options):
    """Run the program as a process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**environment, "PYTHONPATH": str(ROOT), "ORCHESTRATOR_URL": url},
        cwd=cwd,
        timeout=30,
        check=False,
        **options,
    )


def test_a_reader_that_has_seen_enough_ends_the_program_quietly(server, router, tmp_path):
    """As a real process: `orch events c1 | head -1`."""
    for _ in range(3_000):
        router.tick("c1")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "events", "c1", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert process.stdout.readline().split()[0] == b"1"
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
