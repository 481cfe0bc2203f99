"""The HTTP API of a real daemon is what its OpenAPI document says, for requests made from it and against it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_process import diamond

PROGRAM = Path(sys.executable).parent / "schemathesis"
EXAMPLES = os.environ.get("ORCHESTRATOR_TEST_API_EXAMPLES", "10")
"""For each route, beside those that go along the edges of its schemas."""
SEED = os.environ.get("ORCHESTRATOR_TEST_SEED", "20261121")

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not PROGRAM.exists(), reason="schemathesis is not installed"),
]


def test_the_api_keeps_to_its_document(daemon, tmp_path):
    """No 5xx, no undeclared status, content type, header or body; wrong requests are refused and right ones taken."""
    with daemon.client() as client:
        client.send("0", "hello", plan=diamond(), wait=20)  # a fuzzer's favourite: so its looks find something
    options = {
        "--max-examples": EXAMPLES,
        "--phases": "coverage,fuzzing",
        "--request-timeout": "10",
        "--seed": SEED,
        "--generation-database": "none",
        "--header": "Accept: application/json",  # events would come as a stream, which has no end
    }
    command = [str(PROGRAM), "--config-file", str(Path(__file__).with_name("schemathesis.toml")), "run"]
    command += [f"{daemon.url}/openapi.json", "--no-color", *(word for pair in options.items() for word in pair)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None
    assert int(tested[1]) >= 15, "hardly any route was tried"
    assert "Traceback" not in daemon.log.read_text(encoding="utf-8")
