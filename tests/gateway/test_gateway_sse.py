"""Event streams: no gap, no double, whatever happens while they are read."""

from __future__ import annotations

import json
import random
import socket
import threading

import httpx2
import pytest
from test_gateway_wait import until

from gateway.client import DaemonClient, Problem, Unreachable
from messages.events import ConversationPaused

EVENTS = "/api/v1/conversations/c1/events"


class Reader:
    """One connection that parses what comes."""

    def __init__(self, client, path=EVENTS, **headers):
        self._context = client.stream("GET", path, headers={"accept": "text/event-stream", **headers}, timeout=10)
        self.response = self._context.__enter__()
        self._lines = self.response.iter_lines()
        self.heartbeats = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._context.__exit__(*error)

    def next(self):
        """Return (id, event) of the next message."""
        found, event = None, None
        for line in self._lines:
            if line.startswith("id: "):
                found = int(line[4:])
            elif line.startswith("data: "):
                event = json.loads(line[6:])
            elif line.startswith(":"):
                self.heartbeats += 1
            elif line == "" and event is not None:
                return found, event
        return None

    def hear_heartbeats(self, count):
        """Return after so many; an event fails it."""
        while self.heartbeats < count:
            line = next(self._lines)
            assert line.startswith(":") or line == ""
            self.heartbeats += line.startswith(":")

    def ids(self, count):
        return [self.next()[0] for _ in range(count)]


@pytest.mark.parametrize(
    ("query", "accept", "streams"),
    [
        ("", "*/*", True),
        ("", None, True),
        ("", "text/html, */*;q=0.8", True),
        ("?from=now", "*/*", True),
        ("", "application/json", False),
        ("?after=5", "*/*", False),
        ("?limit=5", "*/*", False),
        ("?after=5", "text/event-stream", True),
        ("?after=5", "application/json, text/event-stream", True),
    ],
)
def test_events_stream_unless_a_page_or_json_is_asked_for(http, started, query, accept, streams):
    """What `curl -N` shows without any header is what the interface says: the stream."""
    answer = http.head(f"{EVENTS}{query}", headers={} if accept is None else {"accept": accept})
    kind = "text/event-stream" if streams else "application/json"
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)


def test_a_stream_without_an_accept_header_begins_at_1_or_after_the_last_id(http, started):
    with Reader(http, accept="*/*") as reader:
        assert reader.ids(10) == list(range(1, 11))
    with Reader(http, accept="*/*", **{"last-event-id": "7"}) as reader:
        assert reader.ids(3) == [8, 9, 10]


@pytest.fixture
def started(router):
    """A conversation of ten events."""
    for _ in range(10):
        router.tick("c1")
    return router


def test_a_stream_begins_at_the_first_event_and_goes_on_live(http, started):
    with Reader(http) as reader:
        assert reader.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reader.ids(10) == list(range(1, 11))
        started.tick("c1")
        started.tick("other")
        started.tick("c1")
        assert reader.ids(2) == [11, 12]
        found, event = (started.progress("c1", "half"), reader.next())[1]
        assert found is None and (event["type"], event["text"]) == ("agent.progress", "half") and "seq" not in event


def test_a_stream_goes_on_after_the_last_event_a_client_has_seen(http, started):
    with Reader(http, **{"last-event-id": "7"}) as reader:
        assert reader.ids(3) == [8, 9, 10]
    with Reader(http, f"{EVENTS}?after=9") as reader:
        assert reader.ids(1) == [10]
    with Reader(http, f"{EVENTS}?from=now", **{"last-event-id": "8"}) as reader:
        assert reader.ids(2) == [9, 10]


def test_from_now_leaves_out_what_was(http, started):
    with Reader(http, f"{EVENTS}?from=now") as reader:
        until(lambda: started.feed.stats()["listeners"] == 1)
        reader_ready(reader)
        started.tick("c1")
        assert reader.ids(1) == [11]


def reader_ready(reader):
    """The first bytes are out, so the stream has taken its beginning."""
    assert reader.response.status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "field"),
    [
        (f"{EVENTS}?from=then", {}, "from"),
        (f"{EVENTS}?from=now&after=3", {}, "from"),
        (f"{EVENTS}?limit=3", {}, "limit"),
        (f"{EVENTS}?after=x", {}, "after"),
        (EVENTS, {"last-event-id": "x"}, "Last-Event-ID"),
        (EVENTS, {"last-event-id": "-1"}, "Last-Event-ID"),
    ],
)
def test_a_bad_beginning_is_refused(http, started, path, headers, field):
    answer = http.get(path, headers={"accept": "text/event-stream", **headers})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "invalid_field", field)


def test_an_unknown_conversation_is_not_followed(http, router):
    for path in (EVENTS, f"{EVENTS}?from=now"):
        answer = http.get(path, headers={"accept": "text/event-stream"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert router.feed.stats()["listeners"] == 0


def test_a_quiet_stream_says_that_it_is_alive(http, started):
    with Reader(http) as reader:
        reader.ids(10)
        reader.hear_heartbeats(2)
        started.tick("c1")
        assert reader.ids(1) == [11]


def test_streams_leave_nothing_behind_when_their_clients_go(http, started, server):
    with Reader(http) as one, Reader(http) as two:
        one.ids(10)
        two.ids(10)
        assert server.stats()["sse_clients"] == 2
    until(lambda: server.stats()["sse_clients"] == 0 and started.feed.stats()["listeners"] == 0)


def test_only_so_many_may_follow(http, started, server, monkeypatch):
    monkeypatch.setattr(server.app.state.door, "max_streams", 1)
    with Reader(http) as reader:
        reader.ids(10)
        answer = http.get(EVENTS, headers={"accept": "text/event-stream"})
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")


def test_a_client_that_lags_misses_nothing(http, started, monkeypatch):
    """While the journal is being read for it, far more is published than is kept for one client."""
    monkeypatch.setattr("gateway.sse.QUEUE_LIMIT", 20)
    reading, release = threading.Event(), threading.Event()
    with Reader(http) as reader:
        reader.ids(10)
        started.read_delay = lambda: (reading.set(), release.wait(10))
        feed, started.feed = started.feed, type(started.feed)()
        started.tick("c1")
        started.feed = feed
        started.tick("c1")  # does not follow the last one sent: back to the journal
        assert reading.wait(10)
        for _ in range(70):
            started.tick("c1")
        release.set()
        assert reader.ids(72) == list(range(11, 83))


def test_what_overflows_while_a_page_is_read_is_read_again(http, started, monkeypatch):
    """The page was taken from the journal before the burst, and nothing is published after it."""
    monkeypatch.setattr("gateway.sse.QUEUE_LIMIT", 5)
    taken, release = threading.Event(), threading.Event()
    with Reader(http) as reader:
        reader.ids(10)
        read = started.events

        def slow(*args):
            page = read(*args)
            taken.set()
            release.wait(10)
            return page

        started.events = slow
        feed, started.feed = started.feed, type(started.feed)()
        started.tick("c1")
        started.feed = feed
        started.tick("c1")
        assert taken.wait(10)
        for _ in range(10):
            started.tick("c1")
        arrived(http)
        release.set()
        assert reader.ids(12) == list(range(11, 23))


def arrived(http):
    """Return when the server's loop has taken what was published before."""
    assert http.get("/livez").status_code == 200


@pytest.mark.parametrize("seed", range(3))
def test_readers_that_come_and_go_see_every_event_once(server, router, seed):
    """Two threads publish while readers connect, read a little, break off and reconnect where they were."""
    total, chance = 600, random.Random(seed)
    router.tick("c1")
    done = threading.Event()

    def publish():
        while router.seq("c1") < total:
            router.tick("c1")
            router.progress("c1", "noise")
            done.wait(chance.random() / 500)

    def read(seed):
        dice, seen = random.Random(seed), []
        with httpx2.Client(base_url=server.url, trust_env=False) as client:
            while len(seen) < total:
                headers = {"last-event-id": str(seen[-1])} if seen else {}
                with Reader(client, **headers) as reader:
                    for _ in range(dice.randint(1, 120)):
                        found, _ = reader.next()
                        if found is not None:
                            seen.append(found)
                        if len(seen) >= total:
                            break
        results.append(seen[:total])

    results: list[list[int]] = []
    threads = [threading.Thread(target=publish) for _ in range(2)]
    threads += [threading.Thread(target=read, args=(seed * 10 + n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [list(range(1, total + 1))] * 3


def test_a_live_event_that_does_not_follow_sends_the_stream_back_to_the_journal(http, started):
    """A publisher that lost events (it crashed between commit and publishing) tears no hole."""
    with Reader(http) as reader:
        reader.ids(10)
        feed, started.feed = started.feed, type(started.feed)()
        started.tick("c1")
        started.tick("c1")
        started.feed = feed
        started.tick("c1")
        assert reader.ids(3) == [11, 12, 13]


def test_a_store_that_goes_away_ends_the_stream_and_the_client_comes_back(http, started):
    with Reader(http) as reader:
        reader.ids(10)
        feed, started.feed = started.feed, type(started.feed)()
        started.tick("c1")
        started.store_down, started.feed = True, feed
        started.tick("c1")
        assert reader.next() is None
    started.store_down = False
    with Reader(http, **{"last-event-id": "10"}) as reader:
        assert reader.ids(2) == [11, 12]


@pytest.mark.parametrize(
    ("path", "headers"),
    [(EVENTS, {"last-event-id": "12"}), (f"{EVENTS}?after=12", {}), (f"{EVENTS}?from=now", {"last-event-id": "11"})],
)
def test_who_has_seen_more_than_there_is_is_told_how_far_it_goes(http, started, server, path, headers):
    """The store was restored from a backup: in silence it would miss what comes under numbers it has seen."""
    for ask in (http.get, http.head):
        answer = ask(path, headers={"accept": "text/event-stream", **headers}, timeout=5)
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    problem = http.get(path, headers={"accept": "text/event-stream", **headers}).json()
    assert (problem["code"], problem["seq"]) == ("ahead_of_journal", 10)
    assert server.stats()["sse_clients"] == 0 and started.feed.stats()["listeners"] == 0
    assert http.get(f"{EVENTS}?after=12").json() == {"events": [], "next": None}


def test_who_has_seen_all_there_is_waits_for_what_comes(http, started):
    with Reader(http, **{"last-event-id": "10"}) as reader:
        started.tick("c1")
        assert reader.ids(1) == [11]


def test_a_newest_number_that_cannot_be_read_refuses_nobody(http, started):
    started.newest_seq = lambda _: 0
    with Reader(http, **{"last-event-id": "12"}) as reader:
        for _ in range(3):
            started.tick("c1")
        assert reader.ids(1) == [13]


# The client's side


def test_the_client_says_that_the_store_has_become_older(server, started, monkeypatch):
    monkeypatch.setattr("gateway.client.RECONNECT_DELAY", 0.01)
    with DaemonClient(server.url) as client:
        with pytest.raises(Problem) as caught:
            next(client.follow("c1", 11))
        assert (caught.value.code, caught.value.status, caught.value.body["seq"]) == ("ahead_of_journal", 409, 10)
        follow = client.follow("c1", 8)
        assert [next(follow)["seq"] for _ in range(2)] == [9, 10]
        started.store_down = True  # ends the stream
        feed, started.feed = started.feed, type(started.feed)()
        for _ in range(2):
            started.tick("c1")
        started.feed = feed
        started.tick("c1")
        until(lambda: server.stats()["sse_clients"] == 0)
        del started.journal["c1"][5:]
        started.store_down = False
        with pytest.raises(Problem) as caught:
            next(follow)
        assert (caught.value.code, caught.value.body["seq"]) == ("ahead_of_journal", 5)


def test_the_client_follows_across_a_lost_connection(server, started, monkeypatch):
    monkeypatch.setattr("gateway.client.RECONNECT_DELAY", 0.01)
    with DaemonClient(server.url) as client:
        follow = client.follow("c1", 8)
        assert [next(follow)["seq"] for _ in range(2)] == [9, 10]
        started.store_down = True
        feed, started.feed = started.feed, type(started.feed)()
        started.tick("c1")
        started.feed = feed
        started.tick("c1")
        timer = threading.Timer(0.1, setattr, [started, "store_down", False])
        timer.start()
        assert [next(follow)["seq"] for _ in range(2)] == [11, 12]


def test_the_client_gives_up_on_a_daemon_that_stays_away(monkeypatch):
    monkeypatch.setattr("gateway.client.RECONNECT_DELAY", 0.01)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with DaemonClient(url) as client:
        with pytest.raises(Unreachable):
            next(client.follow("c1", patience=0.05))
        with pytest.raises(Unreachable):
            client.status()
        assert not client.is_alive()


def test_the_client_tells_refusals_from_strangers(server, started):
    with DaemonClient(server.url) as client:
        with pytest.raises(Problem) as caught:
            client.conversation("nobody")
        assert (caught.value.code, caught.value.status) == ("not_found", 404)
        with pytest.raises(Problem) as caught:
            next(client.follow("nobody"))
        assert caught.value.code == "not_found"
        for strange in ("../../metrics", "..", "", "a/b", "ä b"):
            with pytest.raises(Problem) as caught:
                client.conversation(strange)
            assert caught.value.status in (400, 404), strange
    stranger = httpx2.MockTransport(lambda _: httpx2.Response(200, text="<html>"))
    with pytest.raises(Unreachable, match="like a daemon"), DaemonClient("http://x", transport=stranger) as client:
        client.status()


def test_the_client_reads_all_pages(server, started):
    from gateway_support import row

    started.rows = [row(f"c{n}", n) for n in range(30)]
    with DaemonClient(server.url) as client:
        assert len(list(client.conversations(limit=25))) == 25
        assert [e["seq"] for e in client.events("c1")] == list(range(1, 11))
        assert [e["seq"] for e in client.events("c1", after=4, limit=3)] == [5, 6, 7]


def test_a_client_that_accepts_nothing_is_let_go_and_harms_nobody(http, started, server, monkeypatch, caplog):
    """It gets no last word, because it takes none; it may come back with the last id it has seen.

    Its connection ends with what was not sent, for a close would wait until it reads. The server has nothing to add.
    """
    monkeypatch.setattr("gateway.sse.SEND_TIMEOUT", 0.3)
    told = []
    monkeypatch.setattr(server.app.state.door, "log", lambda event, **fields: told.append((event, fields)))
    address = (http.base_url.host, http.base_url.port)
    connections = server._server.server_state.connections
    until(lambda: not connections)  # those of other tests
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect(address)
        deaf.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        until(lambda: server.stats()["sse_clients"] == 1)
        for _ in range(200):
            started.progress("c1", "x" * 100_000)
        until(lambda: any(event == "stream_dropped" for event, _ in told))
        until(lambda: server.stats()["sse_clients"] == 0)
        until(lambda: not connections)
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]
    with Reader(http, **{"last-event-id": "3"}) as reader:
        assert reader.ids(7) == list(range(4, 11))


@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("version", ["1.1", "1.1\r\nConnection: close", "1.0"])
def test_a_client_that_never_reads_its_answer_does_not_keep_its_connection(
    http, started, server, monkeypatch, version, half_closed
):
    """Its answer was handed over whole: to close the connection would be to wait for it to be read."""
    monkeypatch.setattr(server._server.config, "timeout_keep_alive", 0.2)
    for _ in range(100):
        started.emit("c1", ConversationPaused, reason="x" * 100_000)
    connections = server._server.server_state.connections
    until(lambda: not connections)  # those of other tests
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect((http.base_url.host, http.base_url.port))
        deaf.sendall(f"GET {EVENTS}?limit=1000 HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
        if half_closed:
            deaf.shutdown(socket.SHUT_WR)
        until(lambda: len(connections) == 1)
        until(lambda: not connections)
