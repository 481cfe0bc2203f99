"""What a conversation remembers of its own words, and the part of it that planner, agents and synthesizer are shown.

Newest remarks are always shown. Older ones compete for what is left of the budget: shared words with the question weigh
most, then names and numbers, then recency. When the whole history grows beyond a threshold, its older part is condensed
into one note that keeps the heaviest sentences, so that neither memory nor waking grows with a conversation's length.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from messages.frozen import frozen

CHARACTERS_PER_TOKEN: Final = 4
"""A tokenizer-free estimate for prose in English and its neighbours; it errs by about a quarter either way."""

_WORD: Final = re.compile(r"[^\W_]{2,}")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_LONGEST_SENTENCE: Final = 400
_MOST_CONSIDERED: Final = 500
"""Older remarks that compete for a place: putting the context together stays a matter of a few milliseconds."""
_NAME_OR_NUMBER: Final = re.compile(r"\b(?:[A-Z][\w-]*[A-Z\d][\w-]*|\d[\d.,:-]*)")


@frozen
class Remark:
    """One thing said or noted."""

    seq: int
    role: str
    """`user`, `assistant` or `note`."""
    request_id: str
    text: str


@frozen
class MemoryLimits:
    """How much is kept and shown."""

    max_context_tokens: int = 1000
    recent_messages: int = 10
    compression_threshold: int = 50_000
    """Characters of history above which the older part is condensed."""


@frozen
class Memory:
    """The remarks since the newest note, and that note. Never changed in place."""

    remarks: tuple[Remark, ...] = ()
    note: Remark | None = None

    def add(self, *remarks: Remark) -> Memory:
        """Return the memory with more said; a note replaces the one before it and all that it condenses."""
        note = self.note
        kept = list(self.remarks)
        for remark in remarks:
            if remark.role == "note":
                note = remark
                kept = [r for r in kept if r.seq > remark.seq]
            else:
                kept.append(remark)
        return Memory(tuple(kept), note)

    def forget(self, request_ids: Iterable[str]) -> Memory:
        """Return the memory as if these requests had not been asked."""
        gone = set(request_ids)
        return Memory(tuple(r for r in self.remarks if r.request_id not in gone), self.note)

    def condensed(self, limits: MemoryLimits, *, still_open: Collection[str] = ()) -> Remark | None:
        """Return the note that replaces the older part, when the history has grown beyond the threshold.

        What belongs to a request that is `still_open`, and all after it, is left as it is: it may yet be rolled back.
        """
        if sum(len(r.text) for r in self.remarks) <= limits.compression_threshold:
            return None
        older = self.remarks[: -limits.recent_messages] or self.remarks[:-1]
        first_open = next((i for i, r in enumerate(older) if r.request_id in still_open), len(older))
        older = older[:first_open]
        if not older:
            return None
        budget = limits.max_context_tokens * CHARACTERS_PER_TOKEN // 2
        sentences = [] if self.note is None else _sentences(self.note)
        for remark in older:
            sentences.extend(_sentences(remark))
        text = " ".join(_heaviest(sentences, budget))
        return Remark(older[-1].seq, "note", older[-1].request_id, text)

    def context(self, question: str, limits: MemoryLimits, *, without: str | None = None) -> str:
        """Return what is shown beside `question`: the conversation so far within the budget, oldest first.

        `without` is the request being answered: its own question is not repeated.
        """
        budget = limits.max_context_tokens * CHARACTERS_PER_TOKEN
        said = [r for r in self.remarks if r.request_id != without]
        recent = said[-limits.recent_messages :] if limits.recent_messages else []
        older = said[: len(said) - len(recent)][-_MOST_CONSIDERED:]
        shown = _fit(recent, budget)
        left = budget - sum(len(line) for _, line in shown)
        if self.note is not None and left > 0:
            line = f"earlier: {_clip(self.note.text, left)}"
            shown.append((self.note.seq, line))
            left -= len(line)
        words = _words(question) if older else frozenset()
        for remark in sorted(older, key=lambda r: (-_weight(r.text, words), -r.seq)):
            line = f"{remark.role}: {remark.text}"
            if len(line) <= left:
                shown.append((remark.seq, line))
                left -= len(line)
        return "\n".join(line for _, line in sorted(shown))


def _fit(remarks: Sequence[Remark], budget: int) -> list[tuple[int, str]]:
    """Give every remark its line; when all together are too long, each is clipped to an equal share."""
    lines = [(r.seq, f"{r.role}: {r.text}") for r in remarks]
    if sum(len(line) for _, line in lines) <= budget:
        return lines
    share = max(20, budget // max(1, len(lines)))
    return [(seq, _clip(line, share)) for seq, line in lines]


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


def _weight(text: str, question: frozenset[str]) -> float:
    shared = len(question & _words(text))
    return 3.0 * shared + min(5, len(_NAME_OR_NUMBER.findall(text)))


def _sentences(remark: Remark) -> list[str]:
    prefix = "" if remark.role == "note" else f"{remark.role} said: "
    return [prefix + part.strip() for part in _SENTENCE.split(remark.text) if part.strip()]


def _heaviest(sentences: Sequence[str], budget: int) -> list[str]:
    """Keep the sentences that weigh most within the budget, later ones first among equals, in their old order."""
    clipped = [_clip(sentence, _LONGEST_SENTENCE) for sentence in sentences]
    order = sorted(range(len(clipped)), key=lambda i: (-_weight(clipped[i], frozenset()), -i))
    kept: list[int] = []
    for index in order:
        if len(clipped[index]) < budget:
            kept.append(index)
            budget -= len(clipped[index]) + 1
    return [clipped[i] for i in sorted(kept)]
