"""What a conversation remembers, and what of it is shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workflow.memory import CHARACTERS_PER_TOKEN, Memory, MemoryLimits, Remark


def said(*texts: str, role: str = "user") -> Memory:
    return Memory().add(*(Remark(i + 1, role, f"r{i + 1}", text) for i, text in enumerate(texts)))


def test_the_newest_remarks_are_shown_oldest_first():
    """The question being answered is not repeated."""
    memory = said("one", "two", "three")
    assert memory.context("q", MemoryLimits(), without="r3") == "user: one\nuser: two"


def test_older_remarks_that_share_words_with_the_question_win_over_others():
    """Within the budget, relevance decides which old remark is seen."""
    memory = said("the grinder GR-100 costs 300", "x" * 60, "hello", "bye")
    limits = MemoryLimits(max_context_tokens=15, recent_messages=2)
    shown = memory.context("which grinder was it?", limits)
    assert "grinder GR-100" in shown
    assert "xxx" not in shown


def test_recent_remarks_too_long_for_the_budget_are_clipped_equally():
    """Nobody's words vanish, and the budget holds."""
    limits = MemoryLimits(max_context_tokens=25, recent_messages=2)
    shown = said("a" * 500, "b" * 500).context("q", limits)
    assert shown.count("\n") == 1
    assert len(shown) <= 25 * CHARACTERS_PER_TOKEN + 1


def test_a_history_beyond_the_threshold_is_condensed_into_a_note_that_keeps_names_and_numbers():
    """Old chatter goes, facts stay, and memory stops growing."""
    limits = MemoryLimits(max_context_tokens=100, recent_messages=2, compression_threshold=1000)
    chatter = ["well, I was wondering about this and that"] * 30
    memory = said("Order 10231 goes to Ann.", *chatter, "latest", "newest")
    note = memory.condensed(limits)
    assert note is not None
    assert "10231" in note.text
    condensed = memory.add(note)
    assert [r.text for r in condensed.remarks] == ["latest", "newest"]
    assert "earlier:" in condensed.context("q", limits)
    assert condensed.condensed(limits) is None


def test_what_may_yet_be_rolled_back_is_not_condensed():
    """A note cannot be taken back, so it begins before the oldest open request."""
    limits = MemoryLimits(max_context_tokens=100, recent_messages=1, compression_threshold=100)
    memory = said("a" * 60, "b" * 60, "SECRET " * 10, "c" * 60, "newest")
    note = memory.condensed(limits, still_open=["r3"])
    assert note is not None
    assert note.seq == 2
    assert "SECRET" not in note.text
    assert memory.condensed(limits, still_open=["r1"]) is None


def test_rolled_back_requests_are_forgotten():
    """As if they had not been asked."""
    assert said("one", "two").forget(["r1"]).context("q", MemoryLimits()) == "user: two"


@given(st.lists(st.text(max_size=300), max_size=30), st.text(max_size=50), st.integers(1, 200), st.integers(0, 12))
def test_the_context_never_outgrows_its_budget_by_more_than_separators(texts, question, tokens, recent):
    """Whatever was said: what is shown is bounded."""
    limits = MemoryLimits(max_context_tokens=tokens, recent_messages=recent, compression_threshold=500)
    memory = said(*texts)
    note = memory.condensed(limits)
    if note is not None:
        memory = memory.add(note)
    shown = memory.context(question, limits)
    assert len(shown) <= tokens * CHARACTERS_PER_TOKEN + 21 * recent + len(texts) + len("earlier: ")
