"""Security controls seen on the whole program; docs/security.md lists all of them and their tests."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from daemon_process import ROOT, diamond, node
from redis_running import SERVER, redis_server, until

from cli.exit_codes import BAD_CONFIGURATION

MARKER = "s3cr3t-marker-that-must-show-nowhere"
MUTATIONS = os.environ.get("ORCHESTRATOR_TEST_MUTATIONS", "3000")

LOADING = """
import random, sys
from conversation import journal
from messages.wire import WireError, decode
from persistence.contract import EntryRow, Loaded, MemoryRow
from persistence import snapshot, entry
from workflow.codec import SCHEMA, to_plain
from workflow.state import State
from workflow.evolve import fold
from messages.events import MessageAccepted

events = [MessageAccepted(seq=1, at=5, conversation_id="c", request_id="r", message_id="m", text="x")]
sealed = snapshot.seal(to_plain(fold(State("c"), events)), schema=SCHEMA)
stored = entry.encode(events)
message = b'{"type":"user_message","conversation_id":"c","text":"hello","plan":{"nodes":[{"id":"a","agent":"b"}]}}'
said = (MemoryRow(1, "user", "r", "x", 5),)
journal.wake(Loaded("c", 1, sealed, 1, memory=said))  # everything is imported that good data needs
decode(message, max_bytes=10_000)
seen = []
watched = ("import", "exec", "compile", "open", "os.system")
sys.addaudithook(lambda name, args: seen.append(name) if name in watched else None)
chance = random.Random(7)

def mutated(data):
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)

def resealed(data):
    body = mutated(data)
    version = body[3:5]
    return data[:3] + version + snapshot._checksum(version, body[9:]) + body[9:]

for number in range(int(sys.argv[1])):
    for loaded in (Loaded("c", 1, mutated(sealed), 1, memory=said), Loaded("c", 1, resealed(sealed), 1, memory=said),
                   Loaded("c", 1, entries=(EntryRow(1, 1, 5, mutated(stored)),), memory=said)):
        try:
            journal.wake(loaded)
        except journal.UNREADABLE:
            pass
    try:
        decode(mutated(message), max_bytes=10_000)
    except WireError:
        pass
print(sorted(set(seen)))
"""


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_loading_spoilt_data_imports_runs_and_opens_nothing():
    """S1: data never names code, whatever it was changed to, with a good checksum too."""
    done = program("-c", LOADING, MUTATIONS)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2_000:]


@pytest.mark.parametrize(
    ("bind", "token", "starts"),
    [
        ("127.0.0.1:0", "", True),
        ("[::1]:0", "", True),
        ("0.0.0.0:0", "", False),
        ("[::]:0", "", False),
        ("192.0.2.7:0", "", False),
        ("example.org:8642", "", False),
        ("0.0.0.0:0", "x" * 40, True),
    ],
)
def test_beyond_loopback_nothing_starts_without_a_token(bind, token, starts, tmp_path):
    """S5."""
    settings = {"ORCHESTRATOR_HTTP_BIND": bind, "ORCHESTRATOR_DATA_DIR": str(tmp_path)}
    if token:
        settings["ORCHESTRATOR_API_TOKEN"] = token
    done = program("run.py", "config", "--json", **settings)
    assert (done.returncode == 0) is starts, done.stderr
    if not starts:
        refused = program("run.py", "serve", **settings)
        assert refused.returncode == BAD_CONFIGURATION
        assert "api_token" in refused.stderr


def test_a_secret_shows_nowhere(make_daemon, tmp_path):
    """S11 and S24: settings, status, logs, stacks, errors of a daemon whose every secret is a marker."""
    secrets = {"api_token": f"{MARKER}-token", "read_token": f"{MARKER}-reads"}
    daemon = make_daemon(log_level="DEBUG", **secrets)
    daemon.environment["ORCHESTRATOR_REDIS_URL"] = f"redis://user:{MARKER}@127.0.0.1:1/0"
    daemon.start()
    from gateway.client import DaemonClient

    with DaemonClient(daemon.url, secrets["api_token"]) as client:
        client.send("c", "go", plan=diamond("wait", 0.01), wait=10)
        client.send("d", "go", plan={"nodes": [node("a", "wrong")]}, wait=10)
        seen = str(client.status()) + str(list(client.actors())) + str(client.readiness())
    daemon.signal(signal.SIGUSR1)
    daemon.wait_for("state_dump")
    environment = {f"ORCHESTRATOR_{key.upper()}": value for key, value in secrets.items()}
    environment |= {
        "ORCHESTRATOR_REDIS_URL": daemon.environment["ORCHESTRATOR_REDIS_URL"],
        "ORCHESTRATOR_POSTGRES_DSN": f"postgresql://user:{MARKER}@127.0.0.1:1/x",
        "ORCHESTRATOR_STATE_STORAGE": "postgres",
        "ORCHESTRATOR_DATA_DIR": str(tmp_path / "other"),
        "ORCHESTRATOR_HTTP_BIND": "127.0.0.1:0",
    }
    for words in (("config",), ("config", "--json"), ("check",), ("migrate",), ("serve",)):
        done = program("run.py", *words, **environment)
        seen += done.stdout + done.stderr
    wrong = program("run.py", "config", **{**environment, "ORCHESTRATOR_API_TOKENS": MARKER})
    seen += wrong.stdout + wrong.stderr
    daemon.stop()
    assert MARKER not in seen
    assert MARKER not in daemon.log.read_text()


@pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")
def test_a_redis_user_for_senders_can_send_and_nothing_else():
    """S19: the rule is the one that docs/security.md tells; it is read from there."""
    rule = re.search(r"ACL SETUSER (\S+) (.*)", (ROOT / "docs" / "security.md").read_text())
    assert rule is not None
    name, rights = rule[1], rule[2].split()
    with redis_server() as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", name, *(word.replace("PASSWORD", "p") for word in rights))
        path = server.url.removeprefix("unix://").partition("?")[0]
        with redis.Redis(unix_socket_path=path, username=name, password="p") as sender:
            sender.xadd("orch:inbox", {"message": "{}"})
            sender.publish("orch:inject", "{}")
            sender.publish("orch:inject:c1", "x")
            denied = [
                ("GET", "{orch}:store:owner"),
                ("HGETALL", "{orch}:store:state:c1"),
                ("XREAD", "STREAMS", "orch:log:c1", "0"),
                ("XADD", "orch:log:c1", "*", "event", "{}"),
                ("PUBLISH", "orch:events:c1", "{}"),
                ("EVAL", "return 1", "0"),
                ("CONFIG", "GET", "*"),
                ("KEYS", "*"),
                ("DEL", "orch:inbox"),
                ("XGROUP", "DESTROY", "orch:inbox", "orchestrator"),
                ("ACL", "LIST"),
                ("FLUSHALL",),
            ]
            for command in denied:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    sender.execute_command(*command)


def test_what_is_installed_is_what_was_tested():
    """S23: every line of both locks has hashes, and both ways to install insist on them."""
    for lock in ("requirements.lock", "deploy/requirements.lock"):
        text = (ROOT / lock).read_text()
        for entry in re.split(r"\n(?=[a-zA-Z0-9])", text.strip()):
            assert "--hash=sha256:" in entry, entry[:80]
        assert "://" not in text, "a lock names no index"
    assert "--require-hashes" in (ROOT / "Makefile").read_text()
    assert "--require-hashes" in (ROOT / "deploy" / "Containerfile").read_text()


def test_hundreds_of_clients_that_dribble_do_not_slow_the_others(make_daemon):
    """S24: heads that never end hold a socket each, and nothing else."""
    daemon = make_daemon().start()
    host, port = daemon.url.removeprefix("http://").split(":")
    slow = []
    try:
        for _ in range(300):
            dribbler = socket.create_connection((host, int(port)), 5)
            dribbler.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            slow.append(dribbler)

        def ask(_number: int) -> float:
            began = time.monotonic()
            with daemon.client() as client:
                assert client.is_alive()
            return time.monotonic() - began

        with ThreadPoolExecutor(4) as pool:
            took = sorted(pool.map(ask, range(100)))
        assert took[98] < 2.0
        for dribbler in slow[:50]:
            dribbler.sendall(b"a")
    finally:
        for dribbler in slow:
            dribbler.close()
    until(lambda: _sockets(daemon.pid) < 100, "their sockets are gone")
    assert daemon.stop() == 0


def test_more_clients_than_a_shell_allows_files_take_no_file_from_the_store(make_daemon):
    """Shells allow 1,024, here fewer for fewer clients; what a process of this system may have at most is plenty."""
    daemon = make_daemon()
    limited = "import runpy, sys; from resource import *; setrlimit(RLIMIT_NOFILE, (64, getrlimit(RLIMIT_NOFILE)[1]))"
    daemon.program = ["-c", f"{limited}; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"]
    daemon.program += [str(ROOT / "run.py"), "serve"]
    daemon.start()
    host, port = daemon.url.removeprefix("http://").split(":")
    with ExitStack() as clients, daemon.client() as client:
        for _ in range(200):
            clients.enter_context(socket.create_connection((host, int(port)), 5))
        for number in range(5):  # each is woken by a look into the store
            client.send(f"c{number}", "go", plan={"nodes": [node("a", "wait", seconds=0.01)]}, wait=10)
        until(lambda: _sockets(daemon.pid) > 200, "all of them are there")
        assert client.readiness()["status"] == "ready"


def _sockets(pid: int) -> int:
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(link.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return count
