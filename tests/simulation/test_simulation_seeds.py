"""Hundreds of runs of the whole actor system, each from a seed: the invariants hold, and the trouble was real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.__main__ import main, play, story, trace_hash
from simulation.trouble import FAULTS

ROOT = Path(__file__).parents[2]

REACHED = {
    "fault: power lost during a commit",
    "fault: answer of the store lost",
    "fault: row cannot be stored",
    "fault: reading fails",
    "fault: planner fails",
    "fault: synthesizer fails",
    "fault: agent: connection lost",
    "fault: agent: permanent error",
    "fault: agent: asks to be left alone",
    "fault: agent: 429",
    "fault: agent: error of unknown kind",
    "fault: agent: its process died",
    "fault: agent: sys.exit",
    "fault: agent: out of memory",
    "fault: agent: hangs",
    "fault: agent: answers after its timeout",
    "fault: crash in supervisor, before",
    "fault: crash in supervisor, in the core",
    "fault: crash in supervisor, after",
    "fault: crash in agent, after",
    "branch: unfinished work resumed at boot",
    "branch: a cut off node was taken up again",
    "branch: unknown_outcome",
    "branch: timeout",
    "branch: the request's time was over",
    "branch: refused, too much is unfinished",
    "branch: unbound_input",
    "branch: Retry-After obeyed",
    "branch: a late outcome was fenced off",
    "branch: an agent is left alone",
    "branch: an agent that was left alone is tried",
    "branch: an agent is no longer left alone",
    "branch: an attempt failed, as its agent is left alone",
    "branch: ownership lost",
    "branch: quarantined",
    "branch: held back until others were tried",
    "branch: awaits approval",
    "branch: replanned",
    "branch: fallback agent",
    "branch: result from the cache",
    "branch: message id looked up in the store",
    "branch: told it is a duplicate",
    "branch: same id, another body",
    "branch: busy reject",
    "branch: enqueued",
    "branch: interrupt",
    "branch: rollback",
    "branch: reply completed",
    "branch: reply partial",
    "branch: reply failed",
    "branch: reply cancelled",
    "branch: node failed, fatal",
    "branch: progress passed on",
    "answer: mailbox_full",
    "answer: draining",
    "answer: store_unavailable",
    "answer: message_id_conflict",
    "a step was refused: sequence_conflict",
    "a batch of several steps",
    "append: recovery",
}
"""Sometimes it must have come to each of these, or the simulation would no longer look where it once did."""


def test_the_invariants_hold_and_every_kind_of_trouble_was_met():
    """A seed that fails is replayed, and tells its story, by `make simulate SEEDS=1 SEED=<seed>`."""
    seen, failed = play(0, 300)
    assert failed == []
    expected = REACHED | {f"fault: {kind}" for kind in FAULTS}
    assert expected <= set(seen), sorted(expected - set(seen))
    assert sum(what.startswith("fault: ") for what in seen) >= 30


@pytest.mark.parametrize("first", [1_000_000, 2_000_000])
def test_the_invariants_hold_for_other_seeds(first):
    """Far from those that the simulation was made with."""
    assert play(first, 150)[1] == []


def test_a_seed_gives_the_same_run_in_every_process():
    """Neither the order of a set of strings nor anything of the machine decides what happens."""

    def elsewhere(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        command = [sys.executable, "-m", "simulation", "--hash", "--seeds", "25"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=50)
        return done.stdout.strip()

    assert elsewhere("1") == elsewhere("2") == trace_hash(0, 25)


def test_telling_the_story_changes_nothing():
    """A failing seed is replayed with its story: it must fail in the same step."""
    seen = play(7, 1)[0]
    world, failed = story(7)
    assert failed is None
    assert world.seen == seen
    assert world.story is not None and any("Committed" in line for line in world.story)


def test_the_command_counts_and_says_how_fast(capsys, monkeypatch):
    """Its exit code is what a pipeline reads."""
    monkeypatch.setattr(sys, "argv", ["simulation", "--seeds", "6", "--jobs", "1", "--seen"])
    assert main() == 0
    assert "6 seeds from 0, 0 failed" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["simulation", "--seed", "3"])
    assert main() == 0
    assert "all invariants hold" in capsys.readouterr().out
