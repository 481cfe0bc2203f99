"""Who brought the daemon down is found out, and nobody else is set aside for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervision.suspects import Triage, to_try, triage

LIMIT = 3


class Daemon:
    """Dies whenever it takes up a killer; the innocent have long calls and never make progress."""

    def __init__(self, arrivals, killers, limit):
        self.arrivals, self.killers, self.limit = arrivals, killers, limit
        self.counts = {}
        self.quarantined = []
        self.deaths = 0

    def live(self):
        """From one start on; whether it died."""
        for name, death in self.arrivals.items():
            if death <= self.deaths and name not in self.quarantined:
                self.counts.setdefault(name, 0)
        self.counts = {name: count + 1 for name, count in self.counts.items()}
        found = triage(self.counts, self.limit)
        assert not {*found.tried, *found.held} & {*found.quarantined} and not {*found.tried} & {*found.held}
        for name in found.quarantined:
            del self.counts[name]
            self.quarantined.append(name)
        for name in found.held:
            self.counts[name] -= 1
        tried, held = list(found.tried), list(found.held)
        running = self.counts.keys() - {*held}
        while not running & self.killers:
            for name in tried:
                self.counts[name] = min(self.counts[name], self.limit)
            if not held:
                return False
            tried = to_try({name: self.counts[name] for name in held})
            held = [name for name in held if name not in tried]
            for name in tried:
                self.counts[name] += 1
            running |= {*tried}
        self.deaths += 1
        return True


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.data(), st.integers(1, 6))
def test_one_that_kills_the_daemon_is_found_out_and_nobody_with_it(arrivals, data, limit):
    """Whenever the others came, and whatever was counted of them for deaths that something else had caused before."""
    names = data.draw(st.permutations([f"c{number:02}" for number in range(len(arrivals))]))
    killer, *others = names
    daemon = Daemon(dict(zip(names, arrivals, strict=True)) | {killer: 0}, {killer}, limit)
    before = data.draw(st.lists(st.integers(0, limit), max_size=len(others)))
    if sum(count > 0 for count in before) != 1:  # one alone is quarantined at the limit, as is promised
        daemon.counts = dict(zip(others, before, strict=False))
    while daemon.live():
        assert daemon.deaths <= limit + len(names).bit_length()
    assert daemon.quarantined == [killer]


@given(st.integers(2, 30), st.data())
def test_of_two_that_kill_it_both_are_found_out(many, data):
    names = [f"c{number:02}" for number in range(many)]
    killers = set(data.draw(st.permutations(names))[:2])
    daemon = Daemon(dict.fromkeys(names, 0), killers, LIMIT)
    while daemon.live():
        assert daemon.deaths < 60
    assert killers <= {*daemon.quarantined}


def test_nobody_is_suspected_up_to_the_limit():
    assert triage({}, LIMIT) == Triage()
    assert triage({"a": LIMIT, "b": LIMIT, "c": 1}, LIMIT) == Triage()


def test_one_that_stands_alone_is_quarantined_as_soon_as_it_is_over_the_limit():
    assert triage({"a": LIMIT + 1, "new": 1}, LIMIT) == Triage(quarantined=("a",))


def test_of_several_half_of_those_that_lead_are_tried_and_all_others_wait():
    found = triage({"a": LIMIT + 1, "b": LIMIT + 1, "c": LIMIT + 1, "d": 2, "new": 1}, LIMIT)
    assert found == Triage(tried=("a",), held=("b", "c", "d", "new"))
    assert to_try({"b": 3, "c": 2, "d": 3, "e": 3, "f": 3}) == ("b", "d")


def test_who_alone_was_tried_when_it_died_is_quarantined_and_the_others_are_tried_too():
    found = triage({"a": LIMIT + 2, "b": LIMIT + 1, "c": LIMIT + 1}, LIMIT)
    assert found == Triage(quarantined=("a",), tried=("b",), held=("c",))
