"""The Redis store on a real server: the contract, ownership, durability, trouble."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract_suite import StoreContract, World
from redis import Redis
from store_samples import commit, full_step, said, step

from persistence.contract import (
    AppendRefused,
    Committed,
    DeadLetterRow,
    MetricRow,
    OwnershipLost,
    StoreError,
    StoreIncompatible,
    StoreOwned,
    StoreUnavailable,
)
from persistence.open_store import create_store
from persistence.redis_store import RedisStore

SERVER = next(
    (str(path) for path in (Path(sys.executable).parent / "redis-server",) if path.exists()),
    shutil.which("redis-server"),
)
pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


class Server:
    """A redis-server on a socket in a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Return when it answers, its data loaded."""
        command = [str(SERVER), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [*command, "--save", "", *self.options, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except OSError:
            return False
        except Exception:  # noqa: BLE001  # whatever a starting server says
            return False

    def client(self) -> Any:
        return Redis(unix_socket_path=str(self.socket), socket_timeout=5)

    def kill(self) -> None:
        """End it at once, by signal 9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        waiting.wait(0.01)


@contextlib.contextmanager
def server_in_a_folder(*options: str) -> Iterator[Server]:
    # A socket's path may have about 100 characters: the test's own folder is too deep.
    with tempfile.TemporaryDirectory(prefix="rs") as folder:
        server = Server(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with server_in_a_folder() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """A server without data, for tests that leave it running."""
    shared_server.client().flushall()
    return shared_server


@pytest.fixture
def made(server: Server) -> Iterator[Callable[..., RedisStore]]:
    stores: list[RedisStore] = []

    def make(**options: Any) -> RedisStore:
        stores.append(RedisStore(server.url, **options))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


class TestContract(StoreContract):
    @pytest.fixture
    def world(self, server: Server, made: Callable[..., RedisStore]) -> World:
        def take_over(_store: Any) -> None:
            """Become the owner as after a lease that ended."""
            server.client().delete("{orch}:store:lease")
            made().open("somebody else")

        return World(made, take_over, lasting=True)


class TestOwnership:
    def test_a_second_owner_is_refused_while_the_first_lives(self, made: Callable[..., RedisStore]) -> None:
        """Also after several lifetimes of the lease: the first one renews it."""
        first, second = made(lease_ttl=1.5), made(lease_ttl=1.5)
        first.open("first")
        deadline = time.monotonic() + 4.0
        while time.monotonic() < deadline:
            with pytest.raises(StoreOwned, match="another live daemon, first"):
                second.open("second")
        first.close()
        assert second.open("second") == 2

    def test_a_silent_owner_is_replaced_when_its_lease_ends_and_its_late_writes_are_refused(
        self, server: Server, made: Callable[..., RedisStore]
    ) -> None:
        first, second = made(lease_ttl=2.0), made(lease_ttl=2.0)
        first.open("first")
        commit(first, step())
        first._closing.set()  # as if it were frozen: nobody renews
        first._renewer.join()

        began = time.monotonic()
        left = server.client().pttl("{orch}:store:lease") / 1000
        assert left > 0
        assert second.open("second") == 2
        assert left - 0.1 < time.monotonic() - began < 6
        with pytest.raises(OwnershipLost, match="epoch 1, the store has 2"):
            first.commit([step("c1", 1)])
        with pytest.raises(OwnershipLost):
            first.commit([])
        commit(second, step("c1", 1, at=7))
        first.close()  # takes nobody else's lease away
        with pytest.raises(StoreOwned):
            made().open("third")

    def test_a_late_owner_goes_on_when_nobody_took_its_ended_lease(
        self, server: Server, made: Callable[..., RedisStore]
    ) -> None:
        store = made(lease_ttl=2.0)
        store.open("one")
        server.client().delete("{orch}:store:lease")
        commit(store, step())
        until(lambda: server.client().exists("{orch}:store:lease") == 1)
        with pytest.raises(StoreOwned):
            made().open("two")

    def test_an_idle_owner_notices_its_loss(self, server: Server, made: Callable[..., RedisStore]) -> None:
        store = made(lease_ttl=0.3)
        store.open("one")

        def taken() -> bool:
            """The lease is renewed meanwhile, which takes an ended one back."""
            server.client().delete("{orch}:store:lease")
            with contextlib.suppress(StoreOwned):
                return made(lease_ttl=9).open("two") == 2
            return False

        until(taken)
        until(lambda: store._lost is not None)
        with pytest.raises(StoreUnavailable, match="somebody else"):
            store.health()

    def test_two_prefixes_are_two_stores(self, made: Callable[..., RedisStore]) -> None:
        one, two = made(prefix="one"), made(prefix="two")
        assert (one.open("a"), two.open("a")) == (1, 1)
        commit(one, step())
        assert two.conversation("c1") is None

    def test_all_keys_are_in_one_slot_and_none_is_left_at_another_place(
        self, server: Server, made: Callable[..., RedisStore]
    ) -> None:
        store = made(prefix="p")
        store.open("a")
        commit(store, full_step(replied=(("m1", 1),)), rows=[MetricRow(1, "m", 1.0, "s")])
        keys = server.client().keys("*")
        assert len(keys) > 12
        assert all(key.startswith(b"{p}:store:") for key in keys)

    def test_a_newer_store_is_left_as_it_is(self, server: Server, made: Callable[..., RedisStore]) -> None:
        server.client().hset("{orch}:store:owner", "format", 2)
        with pytest.raises(StoreIncompatible):
            made().open("one")
        assert server.client().keys("*") == [b"{orch}:store:owner"]


class TestServerTrouble:
    def test_nothing_acknowledged_is_lost_when_the_server_is_killed_under_writes(self) -> None:
        with server_in_a_folder(*ALWAYS) as server:
            store = RedisStore(server.url)
            store.open("one")
            acknowledged = [0] * 4
            killed = 0
            stop = threading.Event()

            def restart() -> None:
                nonlocal killed
                for _ in range(4):
                    newest = sum(acknowledged)
                    until(lambda newest=newest: sum(acknowledged) > newest + 40)
                    server.kill()
                    server.start()
                    killed += 1
                stop.set()

            killer = threading.Thread(target=restart)
            killer.start()
            trouble = 0
            while not stop.is_set():
                batch = [step(f"c{n}", seq, memory=(said(seq + 1),)) for n, seq in enumerate(acknowledged)]
                rows = [DeadLetterRow(sum(acknowledged), "a", "r", "k", b"{}")]
                while True:
                    try:
                        outcomes = store.commit(batch, rows)
                    except StoreUnavailable:
                        trouble += 1
                        stop.wait(0.01)
                        continue
                    break
                assert [type(outcome) for outcome in outcomes] == [Committed] * 4
                acknowledged = [append.last_seq for append in batch]
            killer.join()
            assert killed == 4
            assert trouble
            for n, last in enumerate(acknowledged):
                assert [row.last_seq for row in store.entries(f"c{n}", after=0, limit=10**6)] == list(
                    range(1, last + 1)
                )
                assert len(store.memory(f"c{n}", first_seq=1, last_seq=last)) == last
            letters = [row.at for row in store.dead_letters(after=0, limit=10**6)]
            assert letters == [4 * n for n in range(acknowledged[0])]
            store.close()

    def test_a_server_that_lost_everything_is_not_begun_anew(self) -> None:
        with server_in_a_folder() as server:
            store = RedisStore(server.url, lease_ttl=0.3)
            store.open("one")
            commit(store, full_step())
            server.kill()
            with pytest.raises(StoreUnavailable):
                store.commit([step("c1", 1)])
            server.start()
            with pytest.raises(OwnershipLost, match=r"\{orch\}:store:owner is gone: the server lost its data"):
                store.commit([step("c1", 1)])
            until(lambda: not store._renewer.is_alive())
            assert server.client().keys("*") == []
            store.close()

    def test_a_server_that_went_back_in_time_is_noticed(self) -> None:
        with server_in_a_folder() as server:
            store = RedisStore(server.url)
            store.open("one")
            commit(store, step())
            server.client().save()
            commit(store, step("c1", 1))
            server.kill()
            server.start()
            with pytest.raises(OwnershipLost, match=r"back in time: it knows commit 1 .* acknowledged commit 2"):
                store.commit([step("c1", 2)])
            assert store.entries("c1", after=1, limit=9) == []
            store.close()

    def test_a_batch_whose_answer_was_lost_is_committed_once(
        self, made: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = made()
        store.open("one")
        script = store._script

        def deaf(*values: Any) -> Any:
            script(*values)
            raise StoreUnavailable("the answer was lost")

        batch = [full_step(), step("c2"), step("c1", 1)]
        rows = [DeadLetterRow(1, "a", "r", "k", b"{}"), MetricRow(1, "m", 1.0, "s")]
        with monkeypatch.context() as patch:
            patch.setattr(store, "_script", deaf)
            with pytest.raises(StoreUnavailable):
                store.commit(batch, rows)
        commit(store, *batch, rows=rows)
        assert len(store.dead_letters(after=0, limit=9)) == 1
        commit(store, rows=rows)
        assert len(store.dead_letters(after=0, limit=9)) == 2
        assert (
            store.cleanup(10**15, keep_journal_ms=0, keep_logs_ms=0, keep_inbox_ms=0)[
                "orchestrator_performance_metrics"
            ]
            == 2
        )

    def test_other_rows_after_a_lost_answer_are_not_taken_for_a_repetition(
        self, made: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = made()
        store.open("one")
        script = store._script

        def deaf(*values: Any) -> Any:
            script(*values)
            raise StoreUnavailable("the answer was lost")

        with monkeypatch.context() as patch:
            patch.setattr(store, "_script", deaf)
            with pytest.raises(StoreUnavailable):
                store.commit([step()], [DeadLetterRow(1, "a", "r", "k", b"{}")])
        commit(store, step("c2"), rows=[DeadLetterRow(2, "a", "r", "k", b"{}")])
        assert [row.at for row in store.dead_letters(after=0, limit=9)] == [1, 2]

    def test_what_cannot_be_stored_is_refused_before_anything_is_written(self, made: Callable[..., RedisStore]) -> None:
        store = made()
        store.open("one")
        for wrong in (step("c2", at="soon"), step("c2", -5), step("c2", memory=(said(1, "\ud800"),))):
            with pytest.raises((TypeError, ValueError)):
                store.commit([step(), wrong])
        assert store.phase_counts() == {}

    @pytest.mark.parametrize(
        ("setting", "value", "back", "said_"),
        [
            ("maxmemory", "1", "0", "OOM"),
            ("min-replicas-to-write", "1", "0", "NOREPLICAS"),
        ],
    )
    def test_a_server_that_takes_no_writes_is_unavailable_until_it_does(
        self, server: Server, made: Callable[..., RedisStore], setting: str, value: str, back: str, said_: str
    ) -> None:
        store = made()
        store.open("one")
        commit(store, step())
        server.client().config_set(setting, value)
        try:
            with pytest.raises(StoreUnavailable, match=said_):
                store.commit([step("c1", 1), step("c2")], [MetricRow(1, "m", 1.0, "s")])
            assert store.load("c1", recent=1).last_seq == 1
        finally:
            server.client().config_set(setting, back)
        commit(store, step("c1", 1), step("c2"))

    def test_a_replica_and_a_busy_server_are_unavailable(self, server: Server, made: Callable[..., RedisStore]) -> None:
        store = made()
        store.open("one")
        client = server.client()
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(StoreUnavailable, match=r"READONLY|read only"):
                store.commit([step()])
        finally:
            client.replicaof("NO", "ONE")
        client.config_set("lua-time-limit", 10)
        busy = threading.Thread(target=lambda: contextlib.suppress(Exception).__enter__() or _spin(server))
        busy.start()

        def refused() -> bool:
            try:
                store.commit([])
            except StoreUnavailable as error:
                return "BUSY" in str(error)
            return False

        until(refused)
        client.script_kill()
        busy.join()
        commit(store, step())

    def test_a_frozen_server_is_unavailable_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with server_in_a_folder() as server:
            store = RedisStore(f"{server.url}?socket_timeout=1")
            store.open("one")
            commit(store, step())
            server.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="Timeout"):
                store.commit([step("c1", 1)])
            assert time.monotonic() - began < 6
            server.process.send_signal(signal.SIGCONT)
            commit(store, step("c1", 1))  # the frozen server still applies the first one: it is the same
            assert len(store.entries("c1", after=0, limit=9)) == 2
            store.close()

    def test_no_server_is_unavailable(self, tmp_path: Path) -> None:
        store = RedisStore(f"unix://{tmp_path}/none.sock")
        with pytest.raises(StoreUnavailable):
            store.open("one")
        store.close()


def _spin(server: Server) -> None:
    with contextlib.suppress(Exception):  # it is killed
        server.client().eval("while true do end", 0)


class TestWords:
    @pytest.mark.parametrize(
        "url",
        [
            "redis://user:hunter2secret@127.0.0.1:1/0",
            "redis://:hunter2/secret@127.0.0.1:6379/0",
            "redis://:hunter2secret@127.0.0.1:port/0",
            "http://:hunter2secret@127.0.0.1/0",
        ],
    )
    def test_no_error_tells_the_password(self, url: str) -> None:
        store = RedisStore(url)
        with pytest.raises(StoreError) as caught:
            store.open("one")
        seen: BaseException | None = caught.value
        assert "hunter2" not in str(seen)
        assert seen.__cause__ is None and seen.__suppress_context__
        assert "hunter2" not in repr(store)

    def test_a_wrong_password_is_not_told(self, server: Server) -> None:
        client = server.client()
        client.config_set("requirepass", "right")
        try:
            store = RedisStore(f"unix://:hunter2@{server.socket}")
            with pytest.raises(StoreUnavailable) as caught:
                store.open("one")
            assert "hunter2" not in str(caught.value)
        finally:
            client.config_set("requirepass", "")

    def test_health_tells_what_can_be_lost(self, server: Server, made: Callable[..., RedisStore]) -> None:
        store = made()
        store.open("one")
        client = server.client()
        said_ = {}
        try:
            for name, settings in {
                "off": {"appendonly": "no"},
                "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
                "evicting": {"appendfsync": "always", "maxmemory-policy": "allkeys-lru"},
                "safe": {"maxmemory-policy": "noeviction"},
            }.items():
                for setting, value in settings.items():
                    client.config_set(setting, value)
                said_[name] = store.health()
        finally:
            client.config_set("appendonly", "no")
        assert [health.durable for health in said_.values()] == [False, False, False, True]
        assert "appendonly is off" in said_["off"].detail
        assert "everysec" in said_["everysec"].detail
        assert "allkeys-lru" in said_["evicting"].detail
        assert said_["safe"].figures["epoch"] == 1

    def test_the_configuration_makes_one(self, server: Server, tmp_path: Path) -> None:
        store = create_store("redis", data_dir=tmp_path, redis_url=server.url, redis_prefix="x", lease_ttl=3.0)
        assert store.open("one") == 1
        commit(store, step())
        assert isinstance(store.commit([step("c1", 5)])[0], AppendRefused)
        assert server.client().exists("{x}:store:owner")
        store.close()
        with pytest.raises(ValueError, match="redis_url"):
            create_store("redis", data_dir=tmp_path)


class TestCleanup:
    def test_it_leaves_no_key_of_what_expired(self, server: Server, made: Callable[..., RedisStore]) -> None:
        from store_samples import result

        store = made()
        store.open("one")
        commit(store, full_step(results=(result("r1", cache_key="k", expires_at=5),), unfinished=False))
        commit(store, step("c1", 1, replied=(("m1", 2),), snapshot=b"s"))
        store.cleanup(10**9, keep_journal_ms=0, keep_logs_ms=0, keep_inbox_ms=0)
        left = {key.decode().removeprefix("{orch}:store:") for key in server.client().keys("*")}
        assert left == {
            "owner", "lease", "once",
            "state:c1", "journal:c1", "memory:c1", "said:c1", "listed", "phase:idle", "phases",
        }  # fmt: skip

    def test_many_conversations_are_cleaned_by_one_call(self, made: Callable[..., RedisStore]) -> None:
        store = made()
        store.open("one")
        commit(store, *(step(f"c{n:03}", snapshot=b"s") for n in range(250)))
        keep = {"keep_journal_ms": 0, "keep_logs_ms": 2**60, "keep_inbox_ms": 2**60}
        assert store.cleanup(10**9, **keep)["orchestrator_journal"] == 250
        assert store.cleanup(10**9, **keep)["orchestrator_journal"] == 0

    def test_dead_letters_go_with_the_logs(self, made: Callable[..., RedisStore]) -> None:
        store = made()
        store.open("one")
        commit(store, rows=[DeadLetterRow(at, "a", "r", "k", b"{}") for at in (500, 10, 20)])
        assert store.drop_dead_letter(2)
        gone = store.cleanup(1_000, keep_journal_ms=0, keep_logs_ms=900, keep_inbox_ms=0)
        assert gone["orchestrator_dead_letters"] == 1
        assert [row.at for row in store.dead_letters(after=0, limit=9)] == [500]

    def test_logs_are_capped(self, made: Callable[..., RedisStore], server: Server) -> None:
        store = made()
        store.open("one")
        server.client().hset("{orch}:store:owner", "rows", 999)
        for _ in range(20):
            store.commit([], [MetricRow(n, "m", 1.0, "s") for n in range(6_000)])
        assert server.client().zcard("{orch}:store:metrics") <= 101_000
