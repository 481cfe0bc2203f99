"""Supervision conformance, O29 to O42: stopping children in order and in time, and answering meanwhile."""

from __future__ import annotations

import sys
from math import inf

import pytest
from actors_support import DEADLINE
from conformance_support import AT_ONCE, Block, Diary, Fail, Over, Quit, World, dead, plan

from actors.base import Actor
from actors.child_plan import ChildPlan, CountChildren, ListChildren, RemoveChild
from actors.supervising import SupervisingActor
from messages.lifecycle import ChildFailed
from supervision.backoff import Backoff
from supervision.children import ChildState, Roster, added, shut_down, started, stopped
from supervision.intensity import Intensity
from supervision.spec import ChildSpec, Strategy

NO_LIMIT = Intensity(10**9, 1.0)


def _kills(world):
    return [fields["path"] for _, fields in world.log.named("child_killed")]


def _stop(world, s):
    s.stop(block=False)
    world.until(lambda: dead(s))


def test_o29_a_child_that_obeys_is_stopped_gracefully(world, diary):
    """It ends by itself, cleans up, and is not killed."""
    s = world.supervise(plan(diary, "a", shutdown_timeout=DEADLINE))
    _stop(world, s)
    assert diary.of("down") == ["a"]
    assert _kills(world) == []


def test_o30_a_child_that_does_not_stop_in_time_is_killed(world, diary):
    """It is out of the tree, its mailbox is closed, and it is counted until it really ends."""
    diary.stubborn = {"a"}
    s = world.supervise(plan(diary, "a", shutdown_timeout=0.05))
    ref, address = world.system.find("/s/a"), world.address(s, "a")
    before = world.system.monotonic()
    _stop(world, s)
    if world.virtual:
        assert world.system.monotonic() - before == pytest.approx(0.05)
    assert _kills(world) == ["/s/a"]
    assert not ref.is_alive()
    letters = world.system.dead_letters.total
    assert address.tell("too late")
    assert world.system.dead_letters.total == letters + 1
    # It is not stuck but only unwilling: its turn comes, and it ends and is forgotten.
    world.until(lambda: not world.system.abandoned)
    assert diary.of("down") == ["a"]


def test_o30_code_that_never_comes_back_is_abandoned_and_counted(diary):
    """No thread can be killed: it runs out alone, its place is free, and what it had not handled goes on."""
    world = World("threads")
    s = world.supervise(plan(diary, "a", shutdown_timeout=0.02), plan(diary, "b"), strategy=Strategy.ONE_FOR_ALL)
    block = Block()
    world.tell(s, "a", block)
    assert block.entered.wait(DEADLINE)
    world.tell(s, "a", "kept")
    world.tell(s, "b", Fail(TimeoutError()))
    world.until(lambda: diary.heard("a") == ["kept"])
    assert [actor.path for actor in world.system.abandoned] == ["/s/a"]
    assert diary.count("up", "a") == 2
    assert world.rows(s)["a"].incarnation == 2
    block.leave.set()
    world.until(lambda: not world.system.abandoned)
    assert world.rows(s)["a"].incarnation == 2
    assert diary.heard("a") == ["kept"]
    world.close()


def test_o31_a_timeout_of_zero_kills_without_asking(world, diary):
    """OTP's brutal_kill."""
    diary.stubborn = {"a"}
    s = world.supervise(plan(diary, "a", shutdown_timeout=0))
    _stop(world, s)
    assert _kills(world) == ["/s/a"]
    assert "a" not in diary.of("asked")


def test_o32_an_infinite_timeout_waits_for_as_long_as_it_takes(world, diary):
    """Right for children that supervise."""
    diary.stubborn = {"a"}
    s = world.supervise(plan(diary, "a", shutdown_timeout=inf))
    ref = world.system.find("/s/a")
    s.stop(block=False)
    world.until(lambda: diary.of("asked") == ["a"])
    if world.virtual:
        world.time.pass_time(1_000_000.0)
    assert not dead(s)
    ref.tell(Quit())
    world.until(lambda: dead(s))
    assert _kills(world) == []


def test_o33_many_dynamic_children_stop_in_parallel_within_one_timeout(world, diary):
    """A pool of stubborn ones takes one timeout, not one each."""
    names = [f"m{number}" for number in range(50)]
    diary.stubborn = set(names)
    s = world.supervise(*(plan(diary, n, shutdown_timeout=0.2) for n in names), stop_together=True)
    before = world.system.monotonic()
    _stop(world, s)
    took = world.system.monotonic() - before
    assert took == pytest.approx(0.2) if world.virtual else took < 50 * 0.2 / 2
    assert len(_kills(world)) == 50


def test_o34_a_child_that_ends_while_it_is_being_stopped_is_waited_for_once(world, diary):
    """Its own end and the order to end cross on the way."""
    s = world.supervise(plan(diary, "a", "permanent"), plan(diary, "b"))
    world.tell(s, "a", Fail(TimeoutError()))
    s.stop(block=False)
    world.until(lambda: dead(s))
    assert world.system.find("/s/a") is None
    assert _kills(world) == []


@pytest.mark.parametrize("end", [Quit(), Fail(TimeoutError())])
def test_o34_a_child_that_ends_by_itself_while_it_is_being_removed_does_not_come_back(world, diary, end):
    """Permanent or not: it was to go."""
    diary.stubborn = {"a"}
    s = world.supervise(plan(diary, "a", backoff=AT_ONCE, shutdown_timeout=inf))
    ref = world.system.find("/s/a")
    world.ask(s, RemoveChild("a"))
    world.until(lambda: diary.of("asked") == ["a"])
    ref.tell(end)
    world.until(lambda: world.counts(s).specs == 0)
    assert diary.count("made", "a") == 1


def test_o35_a_child_that_fails_while_it_is_stopped_is_reported(world, diary):
    """The stop goes on."""
    diary.failing_ends = {"b"}
    s = world.supervise(*(plan(diary, name) for name in "abc"))
    _stop(world, s)
    said = [(level, f["path"], f["cause"]) for level, f in world.log.named("child_failed")]
    assert said == [("error", "/s/b", "OSError: b fails while it stops")]
    assert diary.of("down") == ["c", "a"]


def test_o36_children_stop_in_reverse_order_each_after_the_one_before_has_ended(world, diary):
    """So the eldest can rely on nobody needing it any more."""
    diary.stubborn = {"c"}
    s = world.supervise(*(plan(diary, name, shutdown_timeout=inf) for name in "abcd"))
    unwilling = world.system.find("/s/c")
    s.stop(block=False)
    world.until(lambda: "c" in diary.of("asked"))
    assert world.counts(s).active == 3
    assert diary.of("asked") == ["d", "c"]
    unwilling.tell(Quit())
    world.until(lambda: dead(s))
    diary.lines.remove(("asked", "c"))  # it was asked twice: by its supervisor, and by itself
    lines = [line for line in diary.lines if line[0] in ("asked", "down")]
    assert lines == [(what, name) for name in "dcba" for what in ("asked", "down")]


def test_o37_a_child_that_left_the_tree_does_not_hold_up_the_stop(world, diary):
    """Taken out by somebody else it reports at once, however long it might have been waited for."""
    diary.stubborn = {"a"}
    s = world.supervise(plan(diary, "a", shutdown_timeout=inf), plan(diary, "b"))
    ref = world.system.find("/s/a")
    s.stop(block=False)
    world.until(lambda: diary.of("asked") == ["b", "a"])
    assert world.system.kill(ref)
    world.until(lambda: dead(s))


def _stays_responsive(world, diary, strategy):
    """Ask again and again while a child fails as fast as it can be restarted."""
    plans = [plan(diary, name, backoff=AT_ONCE) for name in "abc"]
    s = world.supervise(*plans, strategy=strategy, intensity=NO_LIMIT)
    diary.failing_starts["b"] = 10**9
    world.tell(s, "b", Fail(TimeoutError()))
    for number in range(1, 21):
        world.until(lambda n=number: diary.count("start failed", "b") >= n * 3)
        asked = s.ask(CountChildren(), block=False)
        if world.virtual:
            for _ in range(20):  # turns, of all actors together, within which the answer must come
                world.time.step()
            assert asked._done
        assert asked.get(timeout=DEADLINE).specs == 3
    diary.failing_starts["b"] = 0
    world.until(lambda: world.counts(s).active == 3)
    _stop(world, s)


def test_o38_an_endless_restart_loop_leaves_a_one_for_one_supervisor_responsive(world, diary):
    """It answers between two restarts."""
    _stays_responsive(world, diary, Strategy.ONE_FOR_ONE)


def test_o39_an_endless_restart_loop_leaves_a_one_for_all_supervisor_responsive(world, diary):
    """As above, with all children restarting each time."""
    _stays_responsive(world, diary, Strategy.ONE_FOR_ALL)


def test_o40_an_endless_restart_loop_leaves_a_rest_for_one_supervisor_responsive(world, diary):
    """As above, with some."""
    _stays_responsive(world, diary, Strategy.REST_FOR_ONE)


def test_o41_counts_and_listing_are_exact_with_restarting_children_and_at_two_thousand(world, diary):
    """Some live, some wait for their restart, some are stopped, some supervise."""
    slow = Backoff(3600.0, 3600.0)
    plans = [plan(diary, f"live{n}") for n in range(1990)]
    plans += [plan(diary, f"waits{n}", backoff=slow) for n in range(5)]
    plans += [plan(diary, f"done{n}", "transient") for n in range(4)]
    plans += [ChildPlan(ChildSpec("sub"), SupervisingActor)]
    s = world.supervise(*plans)
    for n in range(5):
        world.system.find(f"/s/waits{n}").tell(Fail(TimeoutError()))
    for n in range(4):
        world.system.find(f"/s/done{n}").tell(Quit())
    if world.virtual:
        world.time.run()
    else:
        world.until(lambda: (c := world.counts(s)).waiting == 5 and c.active == 1991)
    counts = world.counts(s)
    assert (counts.specs, counts.active, counts.waiting) == (2000, 1991, 5)
    assert (counts.supervising, counts.workers) == (1, 1999)
    rows = world.ask(s, ListChildren())
    assert [row.id for row in rows] == [p.spec.id for p in plans]
    states = [row.state for row in rows]
    assert states == [ChildState.RUNNING] * 1990 + [ChildState.STARTING] * 5 + [ChildState.STOPPED] * 4 + [
        ChildState.RUNNING
    ]
    assert world.ask(s, RemoveChild("waits0"))
    world.until(lambda: world.counts(s).specs == 1999)


def _steps(work):
    """Return how many bytecodes `work()` runs: the same on every machine, unlike seconds."""
    count = 0

    def note(frame, event, _arg):
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def _life_of(children):
    world = World("virtual")
    diary = Diary()
    s = world.supervise(*(plan(diary, f"c{number}") for number in range(children)))
    assert world.counts(s).active == children
    _stop(world, s)
    world.close()


def _roster_of(children):
    roster = Roster()
    for number in range(children):
        roster, _ = added(roster, ChildSpec(str(number)))
        roster, _ = started(roster, str(number), 0.0)
    roster, actions = shut_down(roster, "enough")
    for action in actions:
        roster, _ = stopped(roster, action.id, 0.0)
    assert not roster.stopping


@pytest.mark.parametrize(("life", "few"), [(_roster_of, 100), (_life_of, 25)])
def test_o42_starting_and_stopping_cost_is_linear(life, few):
    """Four times the children take about four times the steps."""
    life(few)  # imports and caches
    assert _steps(lambda: life(few * 4)) < _steps(lambda: life(few)) * 4.5


def test_a_supervisor_that_fails_itself_takes_its_children_along_in_order(world, diary):
    """Its parent hears the error once all of them have ended."""

    class Clumsy(SupervisingActor):
        def _take(self, message):
            if message == "trip":
                raise KeyError(message)
            return super()._take(message)

    reports = []
    top = world.system.spawn(Over, "/over", reports)
    diary.stubborn = {"c"}
    plans = [plan(diary, name, shutdown_timeout=0.05) for name in "abc"]
    s = world.system.spawn(Clumsy, "/over/s", plans, parent=top)
    s.tell("trip")
    world.until(lambda: reports)
    assert isinstance(reports[0], ChildFailed)
    assert isinstance(reports[0].error, KeyError)
    assert _kills(world) == ["/over/s/c"]
    assert [name for name in diary.of("down") if name != "c"] == ["b", "a"]


def test_a_supervisor_that_is_killed_takes_all_below_it_out_of_the_tree(world, diary):
    """The whole branch is free for a successor at once."""
    spec = ChildSpec("in", backoff=AT_ONCE)
    plans = [plan(diary, "x", shutdown_timeout=0.05), plan(diary, "y")]
    inner = ChildPlan(spec, SupervisingActor, (plans,))
    diary.stubborn = {"x"}
    s = world.supervise(inner)
    world.until(lambda: len(diary.of("up")) == 2)
    world.system.kill(world.system.find("/s/in"))
    world.until(lambda: len(diary.of("up")) == 4)
    assert world.rows(s)["in"].incarnation == 2
    world.until(lambda: not world.system.abandoned)
    assert world.counts(world.system.find("/s/in")).active == 2


def test_a_group_can_be_shut_down_while_it_restarts(world, diary):
    """What waits for its start is never started."""
    plans = [plan(diary, name, backoff=Backoff(3600, 3600)) for name in "abc"]
    s = world.supervise(*plans, strategy=Strategy.ONE_FOR_ALL)
    world.tell(s, "b", Fail(TimeoutError()))
    world.until(lambda: diary.of("down") == ["c", "a"])
    _stop(world, s)
    assert diary.of("made") == ["a", "b", "c"]


def test_what_a_child_still_had_when_it_was_removed_are_dead_letters(world, diary):
    """Nothing disappears without a trace."""
    s = world.supervise(plan(diary, "a", backoff=Backoff(3600, 3600)))
    address = world.address(s, "a")
    address.tell(Fail(TimeoutError()))
    address.tell("one")
    asked = address.ask("two")
    world.ask(s, RemoveChild("a"))
    world.until(lambda: not world.rows(s))
    assert [letter.message for letter in world.system.dead_letters.newest()] == ["one"]
    with pytest.raises(Exception, match="stopped before handling"):
        world.get(asked)


def test_reports_of_strangers_do_not_disturb(world, diary):
    """A supervisor is told of an end it knows nothing about."""
    s = world.supervise(plan(diary, "a"))
    stray = world.system.spawn(Actor, "/s/stray", parent=s)
    stray.stop(block=False)
    world.until(lambda: dead(stray))
    assert world.counts(s).active == 1
