"""The judge: from what was promised, what the journal says and what the ledger shows, what went wrong. PURE.

- lost: a message that was acknowledged has no reply, or one that lacks something.
- doubled: a message has two replies, was accepted twice, a node succeeded twice, or a client was told another reply.
- redone: a node was started again although its success was durable, or one attempt was started twice.
- hole: the sequence numbers of a conversation are not 1, 2, 3 ...
- ended: a daemon ended by itself.

A node that ran at the kill, or had finished but was not recorded, may run again under the same key: that is counted as
repeated in flight, and is no fault.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from chaos.ledger import Line

FAULTS: Final = ("lost", "doubled", "redone", "hole", "ended")
_NEVER: Final = 2**63

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Life:
    """One daemon, from its start to its kill."""

    number: int
    boundary: str
    """Where it was killed; empty for one that was not part of the count."""
    ended: int
    """Milliseconds since the epoch."""
    exit_code: int = -9


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that was acknowledged."""

    conversation: str
    message_id: str
    life: int
    """Which daemon acknowledged it."""
    request: str
    reply: Event | None = None
    """What the client was told, if it waited."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must not happen."""

    fault: str
    life: int
    """The daemon whose death brought it about, as far as that can be told."""
    conversation: str
    text: str


@dataclass(slots=True)
class Verdict:
    """What became of a run."""

    findings: list[Finding] = field(default_factory=list)
    accepted: Counter[int] = field(default_factory=Counter)
    """Messages by the life that acknowledged them."""
    open: Counter[int] = field(default_factory=Counter)
    """Messages without a reply when that life ended."""
    repeated: Counter[int] = field(default_factory=Counter)
    """Nodes in flight at the end of that life that ran again."""

    @property
    def held(self) -> bool:
        """Whether nothing went wrong."""
        return not self.findings


def judge(
    sent: Sequence[Sent], events: Mapping[str, Sequence[Event]], ledger: Iterable[Line], lives: Sequence[Life]
) -> Verdict:
    """Return the verdict; `events` are the whole journals, by conversation."""
    verdict = Verdict()
    acknowledged = {(one.conversation, one.message_id): one for one in sent}
    verdict.accepted.update(one.life for one in sent)
    for conversation, journal in events.items():
        verdict.findings.extend(_holes(conversation, journal))
        verdict.findings.extend(_doubled(conversation, journal, acknowledged))
        _count_open(journal, lives, verdict)
    replies = _by_message(events, "reply.sent")
    plans = {(c, e["request_id"]): e for c, es in events.items() for e in es if e["type"] == "plan.drafted"}
    for key, one in acknowledged.items():
        verdict.findings.extend(_lost(one, replies.get(key, []), plans))
    _look_at_work(list(ledger), _successes(events), verdict)
    for life in lives:
        if life.exit_code != -9 and (life.boundary or life.exit_code):
            verdict.findings.append(Finding("ended", life.number, "", f"it ended by itself with {life.exit_code}"))
    return verdict


# Messages


def _lost(one: Sent, replies: Sequence[Event], plans: Mapping[tuple[str, str], Event]) -> Iterator[Finding]:
    if not replies:
        yield Finding("lost", one.life, one.conversation, f"{one.message_id} was acknowledged and has no reply")
        return
    reply = replies[0]
    plan = plans.get((one.conversation, reply["request_id"]))
    planned = set() if plan is None else {node["id"] for node in plan["nodes"]}
    if reply["status"] != "completed" or set(reply["data"]) != planned:
        text = f"the reply to {one.message_id} is {reply['status']} and holds {sorted(reply['data'])}"
        yield Finding("lost", one.life, one.conversation, f"{text} of {sorted(planned)}")
    told = one.reply
    if told is not None and (told["seq"], told["text"]) != (reply["seq"], reply["text"]):
        text = f"the client was told a reply at {told['seq']}, the journal has it at {reply['seq']}"
        yield Finding("doubled", one.life, one.conversation, f"{one.message_id}: {text}")
    if one.request != reply["request_id"]:
        text = f"{one.message_id} was acknowledged as {one.request} and answered as {reply['request_id']}"
        yield Finding("doubled", one.life, one.conversation, text)


def _doubled(conversation: str, journal: Sequence[Event], sent: Mapping[tuple[str, str], Sent]) -> Iterator[Finding]:
    seen = Counter((e["type"], e["message_id"]) for e in journal if e["type"] in ("message.accepted", "reply.sent"))
    for (kind, message_id), count in seen.items():
        if count > 1:
            one = sent.get((conversation, message_id))
            yield Finding("doubled", one.life if one else -1, conversation, f"{message_id} has {count} {kind}")
    done = Counter((e["request_id"], e["node"]) for e in journal if e["type"] == "node.succeeded")
    for (request, node), count in done.items():
        if count > 1:
            yield Finding("doubled", -1, conversation, f"node {node} of {request} succeeded {count} times")


def _holes(conversation: str, journal: Sequence[Event]) -> Iterator[Finding]:
    numbers = [event["seq"] for event in journal]
    for expected, number in enumerate(numbers, 1):
        if number != expected:
            yield Finding("hole", -1, conversation, f"event {expected} is missing, {number} stands in its place")
            return


def _count_open(journal: Sequence[Event], lives: Sequence[Life], verdict: Verdict) -> None:
    accepted = {e["message_id"]: _ms(e) for e in journal if e["type"] == "message.accepted"}
    replied = {e["message_id"]: _ms(e) for e in journal if e["type"] == "reply.sent"}
    for message_id, since in accepted.items():
        until = replied.get(message_id, _NEVER)
        verdict.open.update(life.number for life in lives if since <= life.ended < until)


def _by_message(events: Mapping[str, Sequence[Event]], kind: str) -> dict[tuple[str, str], list[Event]]:
    found: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for conversation, journal in events.items():
        for event in journal:
            if event["type"] == kind:
                found[conversation, event["message_id"]].append(event)
    return found


def _ms(event: Event) -> int:
    return round(datetime.fromisoformat(event["at"]).timestamp() * 1000)


# Work


Node = tuple[str, str, str]


def _successes(events: Mapping[str, Sequence[Event]]) -> dict[Node, int]:
    """Return the attempt that succeeded, by conversation, request and node."""
    return {
        (conversation, event["request_id"], event["node"]): event["attempt"]
        for conversation, journal in events.items()
        for event in journal
        if event["type"] == "node.succeeded"
    }


def _look_at_work(ledger: Sequence[Line], successes: Mapping[Node, int], verdict: Verdict) -> None:
    recorded: set[Node] = set()
    started: dict[Node, dict[int, int]] = defaultdict(dict)
    finished: set[tuple[Node, int]] = set()
    keys: dict[Node, str] = {}
    for line in ledger:
        node = (line.conversation, line.request, line.node)
        if line.what == "recorded":
            recorded.add(node)
        elif line.what == "finish":
            finished.add((node, line.attempt))
        elif line.what == "start":
            text = _redone(line, node, recorded, successes, started[node], keys)
            if text is not None:
                verdict.findings.append(Finding("redone", line.life - 1, line.conversation, text))
            elif started[node] and line.life not in started[node].values():
                verdict.repeated[max(started[node].values())] += 1
            started[node].setdefault(line.attempt, line.life)
    for node, attempt in successes.items():
        if (node, attempt) not in finished:
            text = f"attempt {attempt} of node {node[2]} of {node[1]} succeeded in the journal and never ran"
            verdict.findings.append(Finding("lost", -1, node[0], text))


def _redone(
    line: Line,
    node: Node,
    recorded: set[Node],
    successes: Mapping[Node, int],
    started: Mapping[int, int],
    keys: dict[Node, str],
) -> str | None:
    what = f"node {line.node} of {line.request}, attempt {line.attempt}"
    if node in recorded:
        return f"{what} was started after its result was durable"
    if line.attempt > successes.get(node, _NEVER):
        return f"{what} was started, and attempt {successes[node]} had succeeded"
    if line.attempt in started:
        return f"{what} was started twice, in lives {started[line.attempt]} and {line.life}"
    if keys.setdefault(node, line.key) != line.key:
        return f"{what} has the key {line.key}, an earlier one had {keys[node]}"
    return None
