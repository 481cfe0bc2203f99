"""A store that is older than what was seen of it is refused, unless a person says that it is meant."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from redis_running import SERVER, redis_server
from store_samples import commit, step

from config import Settings
from daemon import Daemon
from persistence.contract import StoreMark
from persistence.sqlite_store import SqliteStore
from persistence.witness import FILE, StoreRestored, Witness
from serving import explain_failure, make_telemetry


def live(settings):
    """Start a daemon and end it in good order; return its epoch."""
    telemetry = make_telemetry(settings)
    daemon = Daemon(settings, telemetry)
    try:
        daemon.start()
        return daemon.epoch
    finally:
        daemon.stop()
        telemetry.close(1.0)


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", http_bind="off", log_level="CRITICAL")


def test_an_older_copy_is_refused_and_left_alone_until_it_is_accepted(settings, tmp_path):
    live(settings)
    copy = tmp_path / "copy.db"
    shutil.copy(settings.sqlite_path, copy)
    live(settings)
    shutil.copy(copy, settings.sqlite_path)
    before = settings.sqlite_path.read_bytes()
    with pytest.raises(StoreRestored, match=r"epoch 1, .* has seen epoch 2, .*--accept-restored") as refused:
        live(settings)
    assert explain_failure(refused.value)[0] == 78
    assert settings.sqlite_path.read_bytes() == before
    assert live(settings.model_copy(update={"accept_restored": True})) == 2
    assert live(settings) == 3


def test_a_copy_taken_while_it_ran_is_noticed_too(settings, tmp_path):
    """Epoch and file are the same as at the end: the beats tell."""
    telemetry = make_telemetry(settings)
    daemon = Daemon(settings, telemetry)
    daemon.start()
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(settings.sqlite_path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    daemon.stop()
    telemetry.close(1.0)
    shutil.copy(copy, settings.sqlite_path)
    with pytest.raises(StoreRestored):
        live(settings)


def test_another_store_and_another_folder_have_not_been_seen(settings, tmp_path):
    live(settings)
    live(settings)
    elsewhere = Settings(data_dir=tmp_path / "elsewhere", http_bind="off", log_level="CRITICAL")
    live(elsewhere)
    shutil.copy(elsewhere.sqlite_path, settings.sqlite_path)
    assert live(settings) == 2
    (settings.data_dir / FILE).unlink()
    assert live(settings) == 3


def test_a_server_that_was_emptied_is_not_begun_anew_unless_a_person_says_so(tmp_path):
    witness = Witness(tmp_path, address="redis://:secret@host/0")
    witness.check(None)
    witness.note(StoreMark("a", 3, 7))
    assert "secret" not in (tmp_path / FILE).read_text()
    for _ in range(2):
        with pytest.raises(StoreRestored, match=r"epoch 3, beat 7.*emptied.*--accept-restored"):
            witness.check(None)
    for elsewhere in ("redis://:secret@host/1", ""):
        Witness(tmp_path, address=elsewhere).check(None)
    witness.note(StoreMark("b", 1, 1))
    with pytest.raises(StoreRestored, match="epoch 1, beat 1"):
        witness.check(None)
    with pytest.raises(StoreRestored, match="epoch 3, beat 7"):
        witness.check(StoreMark("a", 3, 6))


def test_a_file_that_a_person_deleted_is_begun_anew(settings):
    live(settings)
    for path in settings.data_dir.glob("orchestrator.db*"):
        path.unlink()
    assert live(settings) == 1


@pytest.mark.skipif(SERVER is None, reason="there is no redis-server here")
def test_a_redis_without_its_data_is_refused_at_start_and_left_alone(tmp_path):
    with redis_server() as server:
        settings = Settings(
            data_dir=tmp_path, http_bind="off", log_level="CRITICAL", state_storage="redis", redis_url=server.url
        )
        assert live(settings) == 1
        assert live(settings) == 2
        server.client().flushall()
        for _ in range(2):
            with pytest.raises(StoreRestored, match="emptied") as refused:
                live(settings)
            assert explain_failure(refused.value)[0] == 78
            assert server.client().keys("{orch}:store*") == []
        assert live(settings.model_copy(update={"accept_restored": True})) == 1
        assert live(settings) == 2


@pytest.mark.parametrize("spoilt", ["", "nonsense", "[]", '{"a": 1}', '{"a": {"epoch": 0}}'])
def test_a_spoilt_note_stops_nobody(tmp_path, spoilt):
    (tmp_path / FILE).write_text(spoilt)
    witness = Witness(tmp_path)
    witness.check(StoreMark("a", 1, 1))
    witness.note(StoreMark("a", 1, 2))
    with pytest.raises(StoreRestored):
        witness.check(StoreMark("a", 1, 1))
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_many_stores_are_not_noted_for_ever(tmp_path):
    witness = Witness(tmp_path)
    for number in range(50):
        witness.note(StoreMark(f"s{number}", 1, 5))
    witness.check(StoreMark("s0", 1, 1))
    with pytest.raises(StoreRestored):
        witness.check(StoreMark("s49", 1, 1))


def test_reading_beside_the_owner_changes_nothing(tmp_path):
    path = tmp_path / "x.db"
    store = SqliteStore(path)
    assert SqliteStore(path).open_reading() is False
    store.open("a")
    commit(store, step("c"))
    store.close()
    before = path.read_bytes()
    reader = SqliteStore(path)
    assert reader.open_reading()
    assert reader.load("c", recent=1).last_seq > 0
    reader.close()
    assert path.read_bytes() == before
