"""What pykka promises of an actor holds for ours: the behaviours of its own suite, in our words."""

import asyncio
import queue
import threading

import pykka
import pytest
from actors_support import DEADLINE, wait_until

from actors.base import Actor
from actors.default_system import default_system, stop_default_system
from actors.futures import ActorFuture


@pykka.traversable
class Playback:
    """A part of an actor that proxies may walk into."""

    def __init__(self):
        self.volume = 5
        self.hidden = Inner()

    def louder(self, by=1):
        self.volume += by
        return self.volume


class Inner:
    """Not marked, so it is plain data."""


class Sample(Actor):
    """An actor with a bit of everything."""

    def __init__(self, colour="red", **hooks):
        super().__init__()
        self.colour = colour
        self.playback = Playback()
        self._hooks = hooks
        self._secret = 1

    def on_start(self):
        self._hooks.get("started", threading.Event()).set()

    def on_stop(self):
        self._hooks.get("stopped", threading.Event()).set()

    def on_failure(self, exception_type, exception_value, traceback):
        assert traceback is not None
        if "failed" in self._hooks:
            self._hooks["failed"].put((exception_type, exception_value))

    def on_receive(self, message):
        if message == "raise":
            raise LookupError("as asked")
        if message == "stop yourself":
            self.stop()
        return {"echo": message}

    def add(self, a, b=0):
        return a + b

    def crash(self):
        raise LookupError("as asked")

    def block_until(self, event):
        return event.wait(DEADLINE)


@pytest.fixture(autouse=True)
def _default_system_ends():
    yield
    assert stop_default_system(DEADLINE) == []


# Asking and telling


def test_start_gives_a_ref_to_a_live_actor():
    ref = Sample.start()
    assert isinstance(ref, pykka.ActorRef)
    assert ref.is_alive()
    assert ref.actor_class is Sample
    assert str(ref).startswith("Sample (urn:actor:/user/Sample-")
    assert repr(ref) == f"<ActorRef for {ref}>"


def test_arguments_of_start_reach_the_constructor_even_those_the_runtime_uses_itself():
    class Named(Actor):
        def __init__(self, path, parent, mailbox):
            super().__init__()
            self.given = (path, parent, mailbox)

    assert Named.start(path=1, parent=2, mailbox=3).proxy().given.get(timeout=DEADLINE) == (1, 2, 3)


def test_a_constructor_that_does_not_call_super_does_no_harm():
    class Careless(Actor):
        def __init__(self):
            self.x = 1

    assert Careless.start().proxy().x.get(timeout=DEADLINE) == 1


def test_an_actor_made_by_calling_its_class_has_its_address():
    actor = Sample()
    assert actor.actor_ref.path == actor.path
    assert not default_system().find(actor.path)


def test_ask_returns_the_answer_and_without_blocking_a_future_of_it():
    ref = Sample.start()
    assert ref.ask("hi", timeout=DEADLINE) == {"echo": "hi"}
    assert ref.ask("hi", block=False).get(timeout=DEADLINE) == {"echo": "hi"}


def test_ask_times_out_when_the_actor_is_busy():
    ref = Sample.start()
    go = threading.Event()
    held = ref.proxy().block_until(go)
    with pytest.raises(pykka.Timeout):
        ref.ask("hi", timeout=0.01)
    with pytest.raises(pykka.Timeout):
        ref.ask("hi", timeout=0)
    go.set()
    assert held.get(timeout=DEADLINE)


def test_a_failing_ask_answers_the_caller_and_the_actor_lives():
    ref = Sample.start()
    for _ in range(2):
        with pytest.raises(LookupError, match="as asked"):
            ref.ask("raise", timeout=DEADLINE)
    assert ref.ask("hi", timeout=DEADLINE) == {"echo": "hi"}


def test_a_failing_tell_ends_the_actor_and_calls_on_failure():
    failed = queue.SimpleQueue()
    ref = Sample.start(failed=failed)
    ref.tell("raise")
    exception_type, value = failed.get(timeout=DEADLINE)
    assert (exception_type, str(value)) == (LookupError, "as asked")
    assert ref.actor_stopped.wait(DEADLINE)
    assert not ref.is_alive()


def test_a_dead_actor_takes_nothing():
    ref = Sample.start()
    ref.stop(timeout=DEADLINE)
    with pytest.raises(pykka.ActorDeadError, match="not found"):
        ref.tell("hi")
    with pytest.raises(pykka.ActorDeadError, match="not found"):
        ref.ask("hi", timeout=DEADLINE)
    with pytest.raises(pykka.ActorDeadError):
        ref.proxy()
    assert isinstance(ref.ask("hi", block=False), pykka.Future)


# Stopping


def test_stop_waits_for_the_end_and_says_whether_there_was_one():
    stopped = threading.Event()
    ref = Sample.start(stopped=stopped)
    assert ref.stop(timeout=DEADLINE) is True
    assert stopped.is_set()
    assert ref.stop(timeout=DEADLINE) is False


def test_stop_without_blocking_gives_a_future():
    ref = Sample.start()
    assert ref.stop(block=False).get(timeout=DEADLINE) is True


def test_messages_before_stop_are_handled_and_asks_after_it_are_told_that_the_actor_is_dead():
    ref = Sample.start()
    go = threading.Event()
    ref.proxy().block_until(go)
    before = ref.ask("before", block=False)
    ending = ref.stop(block=False)
    after = ref.ask("after", block=False)
    again = ref.stop(block=False)
    go.set()
    assert before.get(timeout=DEADLINE) == {"echo": "before"}
    assert ending.get(timeout=DEADLINE)
    assert again.get(timeout=DEADLINE)
    with pytest.raises(pykka.ActorDeadError, match="stopped before handling"):
        after.get(timeout=DEADLINE)


def test_an_actor_can_stop_itself_and_still_answers_the_message_at_hand():
    ref = Sample.start()
    assert ref.ask("stop yourself", timeout=DEADLINE) == {"echo": "stop yourself"}
    assert ref.actor_stopped.wait(DEADLINE)


def test_pykkas_own_stop_message_is_understood():
    from pykka import messages

    ref = Sample.start()
    ref.tell(messages._ActorStop())
    assert ref.actor_stopped.wait(DEADLINE)


def test_on_start_runs_before_the_first_message():
    seen = []

    class Ordered(Actor):
        def on_start(self):
            seen.append("start")

        def on_receive(self, message):
            seen.append(message)

    Ordered.start().ask("message", timeout=DEADLINE)
    assert seen == ["start", "message"]


def test_an_unexpected_message_is_a_dead_letter():
    class Plain(Actor):
        pass

    ref = Plain.start()
    assert ref.ask("what is this?", timeout=DEADLINE) is None
    assert [letter.message for letter in default_system().dead_letters.newest()] == ["what is this?"]


def test_pykkas_registry_does_not_know_our_actors():
    ref = Sample.start()
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is None
    assert ref not in pykka.ActorRegistry.get_all()


# Proxies


@pytest.fixture
def proxy():
    return Sample.start().proxy()


def test_a_proxy_reads_and_writes_attributes(proxy):
    assert proxy.colour.get(timeout=DEADLINE) == "red"
    proxy.colour = "blue"
    assert proxy.colour.get(timeout=DEADLINE) == "blue"


def test_a_proxy_calls_methods(proxy):
    assert proxy.add(1, b=2).get(timeout=DEADLINE) == 3


def test_a_proxy_defers_calls_by_tell(proxy):
    proxy.crash.defer()
    assert proxy.actor_ref.actor_stopped.wait(DEADLINE)


def test_a_failing_proxy_call_answers_the_caller(proxy):
    with pytest.raises(LookupError):
        proxy.crash().get(timeout=DEADLINE)
    assert proxy.add(1).get(timeout=DEADLINE) == 1


def test_a_proxy_walks_into_traversable_attributes_only(proxy):
    assert proxy.playback.louder(by=2).get(timeout=DEADLINE) == 7
    assert proxy.playback.volume.get(timeout=DEADLINE) == 7
    assert isinstance(proxy.playback.hidden.get(timeout=DEADLINE), Inner)


def test_a_proxy_does_not_show_private_or_unknown_attributes(proxy):
    for name in ("_secret_thing", "nothing_like_that"):
        with pytest.raises(AttributeError):
            getattr(proxy, name)
    assert "add" in dir(proxy)
    assert "_hooks" not in [name for name in dir(proxy) if name not in pykka.ActorProxy.__dict__]


def test_two_proxies_of_one_actor_are_equal(proxy):
    assert proxy == proxy.actor_ref.proxy()
    assert proxy != Sample.start().proxy()


def test_an_actor_can_give_itself_work_through_its_own_proxy():
    class Cooperative(Actor):
        def __init__(self):
            super().__init__()
            self._later = self.actor_ref.proxy()
            self.done = threading.Event()

        def begin(self):
            self._later.end()

        def end(self):
            self.done.set()

    actor = Cooperative.start().proxy()
    actor.begin()
    assert actor.done.get(timeout=DEADLINE).wait(DEADLINE)


# Futures


def test_a_future_can_be_read_many_times_and_set_once():
    future = ActorFuture()
    future.set(1)
    assert [future.get(timeout=0), future.get()] == [1, 1]
    with pytest.raises(queue.Full):
        future.set(2)
    with pytest.raises(queue.Full):
        future.set_exception((ValueError, ValueError(), None))
    with pytest.raises(queue.Full):
        future.set_get_hook(lambda timeout: 3)


def test_a_future_wakes_every_thread_that_waits():
    future = ActorFuture()
    got = queue.SimpleQueue()
    threads = [threading.Thread(target=lambda: got.put(future.get(timeout=DEADLINE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    future.set("x")
    for thread in threads:
        thread.join(DEADLINE)
    assert [got.get(timeout=1) for _ in range(3)] == ["x", "x", "x"]


def test_a_future_raises_the_exception_it_was_given_with_its_traceback():
    future = ActorFuture()
    try:
        raise ValueError("inside")
    except ValueError:
        future.set_exception()
    for _ in range(2):
        with pytest.raises(ValueError, match="inside") as caught:
            future.get(timeout=0)
        assert len(caught.traceback) <= 5  # it does not grow with every caller
    typed = ActorFuture()
    typed.set_exception((KeyError, None, None))
    with pytest.raises(KeyError):
        typed.get()


def test_a_hook_computes_the_value_once_and_forbids_setting():
    calls = []
    future = ActorFuture()
    future.set_get_hook(lambda timeout: calls.append(timeout) or len(calls))
    assert [future.get(timeout=3), future.get()] == [1, 1]
    assert calls == [3]
    with pytest.raises(queue.Full):
        future.set(2)


def test_futures_compose():
    future, other = ActorFuture(), ActorFuture()
    future.set([1, 2, 3])
    other.set("o")
    assert future.filter(lambda x: x > 1).get() == [2, 3]
    assert future.map(len).get() == 3
    assert future.reduce(lambda x, y: x + y).get() == 6
    assert future.reduce(lambda x, y: x + y, 4).get() == 10
    assert future.join(other).get() == [[1, 2, 3], "o"]
    assert pykka.get_all([future, other]) == [[1, 2, 3], "o"]


# Awaiting


def test_awaiting_does_not_block_the_loop():
    """The loop itself opens the gate, so a blocked one would never end."""

    async def main():
        ref = Sample.start()
        gates = [threading.Event() for _ in range(3)]
        waits = [asyncio.ensure_future(_get(ref.proxy().block_until(gate))) for gate in gates]
        await asyncio.sleep(0)
        for gate in gates:
            gate.set()
        return await asyncio.wait_for(asyncio.gather(*waits), DEADLINE)

    assert asyncio.run(main()) == [True, True, True]


async def _get(future):
    return await future


def test_composed_futures_and_stops_can_be_awaited_without_blocking():
    async def main():
        source, other, plain = ActorFuture(), ActorFuture(), pykka.ThreadingFuture()
        waits = [
            asyncio.ensure_future(_get(made))
            for made in (
                source.map(len),
                source.filter(bool),
                source.join(other, plain),
                source.reduce(lambda x, y: x + y),
            )
        ]
        await asyncio.sleep(0)
        source.set([1, 2])
        other.set("o")
        plain.set("p")
        values = await asyncio.wait_for(asyncio.gather(*waits), DEADLINE)
        ref = Sample.start()
        return values, await ref.stop(block=False), await ref.stop(block=False)

    assert asyncio.run(main()) == ([2, [1, 2], [[1, 2], "o", "p"], 3], True, False)


def test_awaiting_futures_of_ours_takes_no_threads():
    async def main():
        sources = [ActorFuture() for _ in range(50)]
        waits = [asyncio.ensure_future(_get(source.map(len))) for source in sources]
        await asyncio.sleep(0)
        for source in sources:
            source.set("ab")
        values = await asyncio.wait_for(asyncio.gather(*waits), DEADLINE)
        return values, [thread.name for thread in threading.enumerate() if thread.name.startswith("asyncio_")]

    assert asyncio.run(main()) == ([2] * 50, [])


def test_awaiting_raises_what_the_actor_raised():
    async def main():
        ref = Sample.start()
        with pytest.raises(LookupError):
            await ref.ask("raise", block=False)
        with pytest.raises(LookupError):
            await ref.ask("raise", block=False).map(str)

    asyncio.run(main())


def test_a_cancelled_wait_leaves_the_actor_and_the_loop_alone():
    async def main():
        gate = threading.Event()
        future = Sample.start().proxy().block_until(gate)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_get(future), 0.01)
        gate.set()
        return await asyncio.wait_for(_get(future), DEADLINE)

    assert asyncio.run(main()) is True


def test_a_loop_that_is_gone_does_not_hurt_the_actor():
    gate = threading.Event()
    ref = Sample.start()

    async def main():
        waiting = asyncio.ensure_future(_get(ref.proxy().block_until(gate)))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(main())
    gate.set()
    assert ref.ask("still there?", timeout=DEADLINE) == {"echo": "still there?"}


def test_outside_of_a_loop_await_is_pykkas():
    future = ActorFuture()
    future.set(7)
    coroutine = _get(future)
    coroutine.send(None)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == 7


def test_the_default_system_comes_back_after_it_was_stopped():
    first = Sample.start()
    stop_default_system(DEADLINE)
    assert not first.is_alive()
    assert Sample.start().ask(1, timeout=DEADLINE) == {"echo": 1}


def test_actors_that_ask_each_other_need_no_thread_each():
    """A chain of blocking asks, deeper than the pool has threads."""

    class Link(Actor):
        def __init__(self, deeper):
            super().__init__()
            self._deeper = deeper

        def on_receive(self, message):
            return Link.start(self._deeper - 1).ask(message, timeout=DEADLINE) + 1 if self._deeper else 0

    assert Link.start(30).ask("how deep?", timeout=DEADLINE) == 30
    wait_until(lambda: default_system().dispatcher._waiting == 0)
