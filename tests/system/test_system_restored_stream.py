"""A store put back from a backup: who followed further than it goes is told, on the wire and by the command line."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from daemon_process import diamond

pytestmark = pytest.mark.timeout(90)
RUN = Path(__file__).parents[2] / "run.py"


def test_a_client_that_comes_back_after_a_restore_is_told_to_begin_anew(make_daemon: Any, tmp_path: Path) -> None:
    before = make_daemon().start()
    with before.client() as client:
        client.send("c1", "one", plan=diamond(), wait=20)
        backed_up = client.conversation("c1")["seq"]
        store = next(tmp_path.rglob("orchestrator.db"))
        with sqlite3.connect(store) as connection:
            connection.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))
        connection.close()
        client.send("c1", "two", plan=diamond(), wait=20)
        seen = client.conversation("c1")["seq"]
    assert seen > backed_up
    before.stop()
    for log in list(store.parent.glob("orchestrator.db-*")):
        log.unlink()
    (tmp_path / "backup.db").replace(store)

    after = make_daemon(accept_restored="true").start()
    url = f"{after.url}/api/v1/conversations/c1/events"
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(seen)}
    told = httpx2.get(url, headers=headers, trust_env=False, timeout=10)
    assert (told.status_code, told.json()["code"], told.json()["seq"]) == (409, "ahead_of_journal", backed_up)
    command = [sys.executable, str(RUN), "events", "c1", "--follow", "--after", str(seen), "--url", after.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=tmp_path, check=False)
    assert done.returncode == 4, done.stderr
    assert str(seen) in done.stderr
    assert str(backed_up) in done.stderr
