"""The examples of docs/clients.md, run as they stand against a real daemon and a real Redis server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from daemon_process import ROOT, eventually
from redis_running import CLI, SERVER, redis_server

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(SERVER is None or CLI is None or shutil.which("curl") is None, reason="a program is missing"),
]
PAGE = ROOT / "docs" / "clients.md"
EXPECTED = [
    ("sh", '"type":"reply.sent"'),
    ("python", "completed"),
    ("sh", "id: 2"),
    ("python", "reply.sent"),
    ("sh", "message.accepted"),
    ("python", "completed"),
    ("sh", "1"),
    ("python", "completed"),
]
"""What each block says, in the page's order."""


def test_every_example_of_the_page_works(make_daemon, tmp_path):
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks] == [kind for kind, _ in EXPECTED]
    with redis_server() as server:
        daemon = make_daemon(redis_url=server.url, agents_from="examples.shop.agents").start()
        eventually(lambda: httpx2.get(daemon.url + "/readyz", trust_env=False).json()["checks"]["redis"]["ok"], "up")
        environment = {
            **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
            "ORCH": daemon.url,
            "REDIS_URL": server.url,
            "PATH": os.pathsep.join([str(Path(str(CLI)).parent), os.environ["PATH"]]),
        }
        for (kind, code), (_, said) in zip(blocks, EXPECTED, strict=True):
            # redis-cli takes no unix:// address, and the server of the test has no other.
            script = code.replace('redis-cli -u "$REDIS_URL"', f"redis-cli -s {server.socket}")
            command = ["sh", "-ec", script] if kind == "sh" else [sys.executable, "-c", script]
            done = subprocess.run(
                command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
            )
            assert done.returncode == 0, (code, done.stderr)
            assert said in done.stdout, (code, done.stdout, done.stderr)
