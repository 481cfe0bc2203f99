"""Trials: who is held back, tried and taken up, and what the store counts meanwhile."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest

from persistence.contract import StoreUnavailable
from supervision.suspects import Triage
from trials import TRIAL, Trials

LIMIT = 3


class World:
    """A store that counts, a reader that reads when it is told, timers that fire by hand."""

    def __init__(self, **recoveries):
        self.recoveries = recoveries
        self.unfinished = set(recoveries)
        self.woken, self.lines, self.timers = [], [], deque()
        self.store_is_away = False
        self.system = SimpleNamespace(timers=self, stopping=False)
        self.trials = Trials(
            self, self, self.system, wake=self.woken.extend, is_unfinished=self.unfinished.__contains__, log=self.log
        )

    def begin(self, tried, held):
        self.trials.begin(Triage(tried=tuple(tried), held=tuple(held)), dict(self.recoveries), LIMIT)

    def shift_recoveries(self, by, conversation_ids=None):
        if self.store_is_away:
            raise StoreUnavailable("gone")
        for name in self.recoveries if conversation_ids is None else conversation_ids:
            self.recoveries[name] = max(0, self.recoveries[name] + by)

    def submit(self, function, done):
        try:
            answer = function()
        except StoreUnavailable as error:
            answer = error
        done(answer)

    def schedule(self, delay, callback):
        self.timers.append((delay, callback))

    def log(self, event, **fields):
        self.lines.append((event, fields))

    def pass_time(self, seconds):
        while seconds > 0 and self.timers:
            delay, callback = self.timers.popleft()
            seconds -= delay
            callback()

    def tried(self):
        return [(fields["names"], fields["held"]) for event, fields in self.lines if event == "conversations_tried"]


def test_who_did_no_harm_makes_way_for_the_next_until_nobody_is_held():
    world = World(a=4, b=4, c=4, d=2)
    world.begin("a", "bcd")
    assert world.recoveries == {"a": 4, "b": 3, "c": 3, "d": 1}
    world.pass_time(TRIAL - 1)
    assert world.woken == []
    world.pass_time(2)
    assert world.woken == ["b"]
    assert world.recoveries == {"a": LIMIT, "b": 4, "c": 3, "d": 1}, "counted before it is taken up"
    world.pass_time(3 * TRIAL)
    assert world.woken == ["b", "c", "d"]
    assert world.recoveries == {"a": 3, "b": 3, "c": 3, "d": 2}
    assert world.tried() == [(["a"], 3), (["b"], 2), (["c"], 1), (["d"], 0)]
    assert not world.timers


def test_nobody_waits_longer_than_those_tried_have_something_to_do():
    world = World(a=4, b=4)
    world.begin("a", "b")
    world.unfinished.remove("a")
    world.recoveries["a"] = 0  # as with every progress
    world.pass_time(0.5)
    assert world.woken == ["b"]
    assert world.recoveries == {"a": 0, "b": 4}


def test_a_store_that_is_away_is_asked_again_before_anybody_is_taken_up():
    world = World(a=4, b=4)
    world.begin("a", "b")
    world.store_is_away = True
    world.pass_time(TRIAL + 20)
    assert world.woken == []
    assert {fields["error_type"] for event, fields in world.lines if event == "error"} == {"StoreUnavailable"}
    world.store_is_away = False
    world.pass_time(6)
    assert world.woken == ["b"]


def test_nobody_is_taken_up_while_the_daemon_ends():
    world = World(a=4, b=4)
    world.begin("a", "b")
    world.system.stopping = True
    world.pass_time(2 * TRIAL)
    assert world.woken == []


def test_an_end_in_good_order_says_as_little_for_those_held_back_as_against_those_tried():
    world = World(a=2, b=2, c=2)
    world.begin("a", "bc")
    world.trials.farewell()
    assert world.recoveries == {"a": 1, "b": 1, "c": 1}, "as before this start, so all stay suspected alike"


def test_one_whose_turn_was_noted_while_the_daemon_ends_is_counted_as_taken_up():
    world = World(a=4, b=4)
    world.begin("a", "b")
    world.system.stopping = True
    world.pass_time(2 * TRIAL)
    world.trials.farewell()
    assert world.recoveries == {"a": 2, "b": 3}


@pytest.mark.parametrize("held", [(), ("b",)])
def test_without_anybody_to_try_nothing_happens(held):
    world = World(a=1, b=1)
    world.begin((), held)
    assert not world.timers and not world.lines
