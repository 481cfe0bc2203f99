"""The feed: cheap for nobody, in order for everybody, and no listener harms another."""

from __future__ import annotations

import threading
import time

from test_gateway_wait import until

from gateway.feed import Feed
from messages.events import PhaseChanged


def event(seq, conversation_id="c1"):
    return PhaseChanged(seq=seq, at=1, conversation_id=conversation_id, from_phase="a", to_phase="b")


def test_publishing_to_nobody_does_not_even_look_at_the_events():
    class Untouchable:
        def __iter__(self):
            raise AssertionError

    feed = Feed()
    feed.publish(Untouchable())
    feed.subscribe("c1", print)()
    feed.publish(Untouchable())


def test_listeners_hear_their_conversation_or_all_until_they_end():
    feed, mine, all_of_them = Feed(), [], []
    stop = feed.subscribe("c1", mine.append, quick=True)
    feed.subscribe(None, all_of_them.append, quick=True)
    feed.publish([event(1), event(1, "c2"), event(2)])
    stop()
    stop()
    feed.publish([event(3)])
    assert [e.seq for e in mine] == [1, 2]
    assert [(e.conversation_id, e.seq) for e in all_of_them] == [("c1", 1), ("c2", 1), ("c1", 2), ("c1", 3)]
    assert feed.stats()["listeners"] == 1


def test_a_raising_listener_harms_neither_publisher_nor_others_and_is_told_once():
    told, heard = [], []
    feed = Feed(lambda event, /, **fields: told.append((event, fields["error_message"])))

    def broken(_):
        raise ValueError("mine alone")

    feed.subscribe("c1", broken, quick=True)
    feed.subscribe("c1", broken)
    feed.subscribe("c1", heard.append, quick=True)
    feed.publish([event(n) for n in range(1, 6)])
    assert [e.seq for e in heard] == [1, 2, 3, 4, 5]
    until(lambda: feed.stats()["failed"] == 10)
    assert told == [("error", "mine alone")]


def test_a_stuck_listener_delays_nobody_and_costs_bounded_memory():
    release, entered, slow, quick = threading.Event(), threading.Event(), [], []
    feed = Feed(queue_limit=10)

    def stuck(heard):
        entered.set()
        release.wait(10)
        slow.append(heard.seq)

    feed.subscribe(None, stuck)
    feed.subscribe(None, quick.append)
    feed.publish([event(1)])
    assert entered.wait(5)
    began = time.monotonic()
    for seq in range(2, 32):
        feed.publish([event(seq)])
        until(lambda seq=seq: len(quick) == seq)
    assert time.monotonic() - began < 5
    release.set()
    until(lambda: len(slow) == 11)
    assert slow == [1, *range(22, 32)]
    assert feed.stats()["dropped"] == 20


def test_a_listener_that_ends_ends_its_thread():
    feed, heard, threads = Feed(), [], []
    stop = feed.subscribe("c1", lambda event: (heard.append(event), threads.append(threading.current_thread())))
    feed.publish([event(1)])
    until(lambda: threads)
    stop()
    threads[0].join(5)
    assert not threads[0].is_alive()
    feed.publish([event(2)])
    assert len(heard) == 1


def test_subscribing_while_others_publish_keeps_order_and_loses_nothing():
    """What is published after `subscribe` returns is heard, in order, whoever else comes and goes."""
    feed, stop = Feed(), threading.Event()

    def churn():
        while not stop.is_set():
            feed.subscribe("c1", lambda _: None, quick=True)()

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    heard = []
    feed.subscribe("c1", heard.append, quick=True)
    for seq in range(1, 2_001):
        feed.publish([event(seq)])
    stop.set()
    for thread in threads:
        thread.join(10)
    assert [e.seq for e in heard] == list(range(1, 2_001))
