"""What was stored once must be readable for ever: bytes as they were written, and steps that could not be read back."""

from __future__ import annotations

from typing import Any

import pytest

from messages import events as e
from messages.failure import Failure
from messages.plan import NodeSpec
from persistence import snapshot
from persistence.append import build_append
from persistence.contract import EntryRow
from persistence.entry import decode, encode

R1 = {"conversation_id": "c1", "request_id": "r1"}
STEP: list[Any] = [
    e.MessageAccepted(seq=1, at=5, message_id="m1", **R1),
    e.PhaseChanged(seq=2, at=5, cause=1, from_phase="initializing", to_phase="planning", **R1),
    e.PlanDrafted(
        seq=3, at=4, cause="m1", nodes=(NodeSpec(id="a", agent="echo", timeout=5.0, retries=3, need=0),), **R1
    ),
    e.NodeFailed(
        seq=4,
        at=5,
        node="a",
        agent="echo",
        attempt=1,
        error=Failure(type="TimeoutError", error_class="transient", message="late"),
        **R1,
    ),
    e.NodeSucceeded(seq=5, at=5, node="a", agent="echo", attempt=2, duration_ms=1.5, **R1),
    e.ReplySent(seq=6, at=5, message_id="m1", nodes=("a",), status="completed", **R1),
    e.ConversationPaused(seq=7, at=5, conversation_id="c1", by="me"),
]
BODY = (
    b'{"request_id":"r1","events":['
    b'{"type":"message.accepted","message_id":"m1"},'
    b'{"type":"phase.changed","cause":1,"from":"initializing","to":"planning"},'
    b'{"type":"plan.drafted","cause":"m1","nodes":[{"id":"a","agent":"echo","task":"","inputs":{},"depends_on":[],'
    b'"need":0,"timeout":5.0,"retries":3,"on_failure":"skip","on_unknown_outcome":"retry","effects":"read",'
    b'"approval":false,"contract":""}],"at":4},'
    b'{"type":"node.failed","node":"a","agent":"echo","attempt":1,"error":{"type":"TimeoutError","class":"transient",'
    b'"message":"late","retry_after":null,"counted":true}},'
    b'{"type":"node.succeeded","node":"a","agent":"echo","attempt":2,"duration_ms":1.5},'
    b'{"type":"reply.sent","message_id":"m1","nodes":["a"],"status":"completed"},'
    b'{"type":"conversation.paused","by":"me","request_id":null}]}'
)
CHECKSUM = b"647b9fa0"


def test_a_step_of_the_first_version_is_read_as_it_was_meant():
    """A default or a name that changes in messages/ changes what is in every journal: this is where it shows."""
    assert decode("c1", EntryRow(1, 7, 5, CHECKSUM + BODY)) == STEP


def test_an_entry_says_nothing_twice():
    """No default, nothing the row says, and a time or a request only where it is another one."""
    assert encode(STEP) == CHECKSUM + BODY


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (b"OS1\x00\x01\x1fc%\x17\x81\xa1a\x93\x01\xc0\xa1x", {"a": [1, None, "x"]}),
        (b'OJ1\x00\x01\xe6\xa7\xb8\xb5{"a":1180591620717411303424}', {"a": 2**70}),
    ],
)
def test_a_snapshot_of_the_first_version_is_read_as_it_was_meant(stored, plain):
    """Both forms: msgpack, and JSON for what msgpack cannot hold."""
    assert snapshot.unseal(stored, schema=1) == plain
    assert snapshot.seal(plain, schema=1) == stored


@pytest.mark.parametrize("body", ["text instead of bytes", 7, None, b"", b"99"])
def test_a_row_changed_by_hand_is_an_error_like_any_other(body):
    """A database hands out whatever type somebody put there."""
    with pytest.raises(ValueError, match="checksum"):
        decode("c1", EntryRow(1, 1, 5, body))
    with pytest.raises(snapshot.SnapshotCorrupt):
        snapshot.unseal(body, schema=1)


@pytest.mark.parametrize("seqs", [(1, 3), (2, 1), (1, 1), (1, 2, 4)])
def test_a_step_with_a_hole_is_not_encoded(seqs):
    """It could not be read back: the row holds the first and the last number only."""
    with pytest.raises(ValueError, match="must follow each other"):
        encode([STEP[0].changed(seq=seq) for seq in seqs])


@pytest.mark.parametrize("before", [1, 5])
def test_a_step_that_does_not_follow_on_is_not_built(before):
    """The store would take its word for the first sequence number."""
    with pytest.raises(ValueError, match="does not follow on"):
        build_append(
            conversation_id="c1",
            expected_seq=before,
            events=STEP,
            phase="planning",
            unfinished=True,
            oldest_open_seq=1,
            open_request_ids=(),
            snapshot=None,
            fingerprints={},
            results={},
        )
