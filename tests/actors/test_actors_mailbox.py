"""The mailbox: order, bounds, age, and being handed on."""

import threading
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.envelope import Envelope
from actors.mailbox import Mailbox


def messages(mailbox):
    return [envelope.message for envelope in mailbox.drain()]


def test_messages_come_out_in_order_and_orders_to_end_first():
    mailbox = Mailbox()
    for number in range(3):
        mailbox.put(Envelope(number))
    mailbox.put_first(Envelope("stop"))
    assert not mailbox.empty()
    assert [mailbox.get().message for _ in range(4)] == ["stop", 0, 1, 2]
    assert mailbox.empty()
    with pytest.raises(IndexError):
        mailbox.get()
    assert mailbox.take() is None


@pytest.mark.parametrize("change", ["put_first", "divert"])
def test_nothing_is_doubled_that_is_taken_while_the_queue_changes(change):
    """A consumer takes no lock: between its look at the queue and the taking anything may happen."""
    mailbox, given = Mailbox(), []
    for number in range(4):
        mailbox.put(Envelope(number))
    looked_at = mailbox._items
    taken = []
    if change == "divert":
        mailbox.divert(
            lambda envelope: (given.append(envelope.message), taken.append(looked_at.popleft())), Envelope("stop")
        )
    else:
        mailbox.put_first(Envelope("stop"))
        taken.append(looked_at.popleft())
    everything = [*(envelope.message for envelope in taken), *given, *messages(mailbox)]
    assert sorted(map(str, everything)) == ["0", "1", "2", "3", "stop"]


def test_offer_refuses_at_the_limit_and_put_never_does():
    mailbox = Mailbox(limit=2)
    assert [mailbox.offer(Envelope(n)) for n in range(3)] == [True, True, False]
    mailbox.put(Envelope("own"))
    assert mailbox.depth == 3
    mailbox.get()
    assert not mailbox.offer(Envelope("still full"))
    mailbox.get()
    assert mailbox.offer(Envelope("room again"))
    assert messages(mailbox) == ["own", "room again"]


def test_the_age_of_the_oldest_message_is_known():
    now = [10.0]
    mailbox = Mailbox(now=lambda: now[0])
    assert mailbox.oldest_age is None
    mailbox.put(Envelope("a"))
    now[0] = 12.0
    mailbox.put(Envelope("b"))
    now[0] = 15.0
    assert mailbox.oldest_age == 5.0
    mailbox.get()
    assert mailbox.oldest_age == 3.0


def test_an_idle_mailbox_holds_no_queue():
    mailbox = Mailbox()
    mailbox.attach(object(), lambda owner: None, awake=False)
    assert mailbox._items is None
    mailbox.put(Envelope("x"))
    mailbox.get()
    assert mailbox.release() is False
    assert mailbox._items is None


def test_an_owner_is_scheduled_once_until_it_lets_go():
    scheduled = []
    mailbox = Mailbox()
    mailbox.attach("owner", scheduled.append, awake=False)
    mailbox.put(Envelope(1))
    mailbox.offer(Envelope(2))
    mailbox.put_first(Envelope(0))
    assert scheduled == ["owner"]
    mailbox.get()
    assert mailbox.release() is True  # more is left: the dispatcher keeps it
    mailbox.drain()
    assert mailbox.release() is False
    mailbox.put(Envelope(3))
    assert scheduled == ["owner", "owner"]


def test_what_comes_between_two_owners_is_kept_for_the_next():
    scheduled = []
    mailbox = Mailbox()
    mailbox.attach("first", scheduled.append, awake=False)
    mailbox.put(Envelope(1))
    mailbox.detach()
    mailbox.put(Envelope(2))
    mailbox.restore([Envelope(0)])
    assert not mailbox.attached
    mailbox.attach("second", scheduled.append, awake=False)
    assert scheduled == ["first", "second"]
    assert messages(mailbox) == [0, 1, 2]


def test_only_one_owner_at_a_time():
    mailbox = Mailbox()
    mailbox.attach("first", lambda owner: None)
    with pytest.raises(ValueError, match="live actor"):
        mailbox.attach("second", lambda owner: None)


def test_a_closed_mailbox_gives_everything_away():
    sink = []
    mailbox = Mailbox()
    mailbox.put(Envelope(1))
    mailbox.close(lambda envelope: sink.append(envelope.message))
    mailbox.put(Envelope(2))
    mailbox.put_first(Envelope(3))
    assert not mailbox.offer(Envelope(4))
    assert sink == [1, 2, 3]
    assert not mailbox.attached


def test_a_sink_that_sends_to_its_own_closed_mailbox_does_not_hang():
    sink = []
    mailbox = Mailbox()

    def again(envelope):
        sink.append(envelope.message)
        if envelope.message < 3:
            mailbox.put(Envelope(envelope.message + 1))

    mailbox.put(Envelope(0))
    mailbox.close(again)
    assert sink == [0, 1, 2, 3]


def test_nothing_is_lost_when_a_mailbox_closes_while_others_send():
    for _ in range(20):
        sink, mailbox, barrier = [], Mailbox(), threading.Barrier(5)

        def send(number, mailbox=mailbox, barrier=barrier):
            barrier.wait()
            for count in range(50):
                mailbox.put(Envelope((number, count)))

        threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait()
        mailbox.close(lambda envelope, sink=sink: sink.append(envelope.message))
        for thread in threads:
            thread.join()
        assert sorted(sink) == [(n, c) for n in range(4) for c in range(50)]


class MailboxModel(RuleBasedStateMachine):
    """A mailbox behaves like a plain list that counts how often its owner had to be woken."""

    def __init__(self):
        super().__init__()
        self.mailbox = Mailbox(limit=4)
        self.expected = deque()
        self.scheduled = 0
        self.turn = False
        self.owned = False
        self.number = 0

    def _schedule(self, owner):
        assert not self.turn, "scheduled while it was being run"
        self.scheduled += 1
        assert self.scheduled == 1, "scheduled twice"

    def _next(self):
        self.number += 1
        return self.number

    @rule()
    def put(self):
        number = self._next()
        self.mailbox.put(Envelope(number))
        self.expected.append(number)

    @rule()
    def put_first(self):
        number = self._next()
        self.mailbox.put_first(Envelope(number))
        self.expected.appendleft(number)

    @rule()
    def offer(self):
        number = self._next()
        taken = self.mailbox.offer(Envelope(number))
        assert taken == (len(self.expected) < 4)
        if taken:
            self.expected.append(number)

    @precondition(lambda self: not self.owned)
    @rule(awake=st.booleans())
    def attach(self, awake):
        self.owned = True
        self.mailbox.attach("owner", self._schedule, awake=awake)

    @precondition(lambda self: self.scheduled == 1)
    @rule(count=st.integers(0, 5))
    def run(self, count):
        self.scheduled, self.turn = 0, True
        for _ in range(count):
            envelope = self.mailbox.take()
            assert (envelope.message if envelope else None) == (self.expected.popleft() if self.expected else None)
        more = self.mailbox.release()
        assert more == bool(self.expected)
        self.turn, self.scheduled = False, int(more)

    @precondition(lambda self: self.owned)
    @rule()
    def detach(self):
        self.owned, self.scheduled = False, 0
        self.mailbox.detach()

    @invariant()
    def nothing_sleeps_with_messages_waiting(self):
        assert self.mailbox.depth == len(self.expected)
        if self.owned and self.expected:
            assert self.scheduled == 1


TestMailboxModel = MailboxModel.TestCase
TestMailboxModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
