"""Bytes from strangers: what is taken, and what is refused with which words."""

from __future__ import annotations

import contextlib
import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.inbound import Cancel, UserMessage
from messages.wire import MAX_DEPTH, WireError, decode, pack, unpack, validate

GOOD = {"type": "user_message", "conversation_id": "c1", "text": "hello"}


def refused(body: bytes, max_bytes: int = 100_000) -> WireError:
    with pytest.raises(WireError) as caught:
        decode(body, max_bytes=max_bytes)
    return caught.value


@pytest.mark.parametrize("encode", [lambda m: json.dumps(m).encode(), msgpack.packb], ids=["json", "msgpack"])
def test_json_and_msgpack_are_told_apart_by_the_first_byte(encode):
    """The same message in either encoding is the same message."""
    assert decode(encode(GOOD), max_bytes=1000) == UserMessage(conversation_id="c1", text="hello")
    assert decode(encode({"type": "cancel", "conversation_id": "c1"}), max_bytes=1000) == Cancel(conversation_id="c1")


def test_what_the_address_says_is_filled_in_and_must_not_be_contradicted():
    """A URL names the conversation; a body that names another is an error, not a choice."""
    body = b'{"text": "hi"}'
    defaults = {"conversation_id": "c9", "type": "user_message"}
    assert decode(body, max_bytes=100, defaults=defaults).conversation_id == "c9"
    with pytest.raises(WireError, match="in the address"):
        decode(b'{"text": "hi", "conversation_id": "c8"}', max_bytes=100, defaults=defaults)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "invalid_body", "one JSON object"),
        (b"[1]", "invalid_body", "one JSON object"),
        (b"hello", "invalid_body", "one JSON object"),
        (b'{"text": ', "invalid_body", "not valid JSON"),
        (b'{"a": 1} {"b": 2}', "invalid_body", "not valid JSON"),
        (b'{"a": NaN}', "invalid_body", "NaN is not a JSON number"),
        (b'{"a": 1, "a": 2}', "invalid_body", "'a' occurs twice"),
        (b'{"a": "\\ud800"}', "invalid_body", "lone surrogate"),
        (b'{"a": 1e999}', "invalid_body", "not a number that can be stored"),
        (b"\xff\xfe", "invalid_body", "one JSON object"),
        (b'{"a": "\xff"}', "invalid_body", "not valid JSON"),
        (b"\x81\xa1a\xc7\x01\x05x", "invalid_body", "extension"),
        (b"\x81\xa1a\xd6\xff\x00\x00\x00\x01", "invalid_body", "timestamp"),
        (b"\x81\xa1a\x01\x00", "invalid_body", "not valid msgpack"),
        (b"\x81\xa1a", "invalid_body", "not valid msgpack"),
        (msgpack.packb({"a": b"raw"}), "invalid_body", "binary values"),
        (msgpack.packb({b"raw": 1}), "invalid_body", "binary values"),
        (msgpack.packb({"a": [float("inf")]}), "invalid_body", "inf is not a number that can be stored"),
        (b"\x81\xa1a\xa3\xed\xa0\x80", "invalid_body", "not valid msgpack"),
        (b'{"a": [1, 1e999]}', "invalid_body", "inf is not a number that can be stored"),
        (b'{"\\udc00": 1}', "invalid_body", "lone surrogate"),
        (b'{"a": "\xed\xa0\x80"}', "invalid_body", "not valid JSON"),
        (json.dumps({"conversation_id": "c"}).encode(), "unsupported_type", "must be one of"),
        (json.dumps({**GOOD, "type": "approve"}).encode(), "unsupported_type", "must be one of"),
        (json.dumps({**GOOD, "colour": 1}).encode(), "invalid_field", "colour is not a known field"),
        (json.dumps({**GOOD, "text": 5}).encode(), "invalid_field", "text"),
        (json.dumps({**GOOD, "text": ""}).encode(), "invalid_field", "text must not be empty"),
        (json.dumps({**GOOD, "text": "a\x00b"}).encode(), "invalid_field", "NUL"),
        (json.dumps({**GOOD, "plan": {"answer": "a\x00b"}}).encode(), "invalid_field", "plan.answer"),
        (b'{"type": "pause", "conversation_id": "c1", "reason": "a\\u0000b"}', "invalid_field", "NUL"),
        (json.dumps({"type": "user_message", "conversation_id": "c"}).encode(), "invalid_field", "text is missing"),
        (json.dumps({**GOOD, "conversation_id": "a b"}).encode(), "invalid_conversation_id", "1 to 200"),
        (json.dumps({**GOOD, "conversation_id": "x" * 201}).encode(), "invalid_conversation_id", "1 to 200"),
        (json.dumps({**GOOD, "conversation_id": "c1\n"}).encode(), "invalid_conversation_id", "1 to 200"),
        (json.dumps({**GOOD, "plan": {"nodes": [{"id": "a"}]}}).encode(), "invalid_field", "plan.nodes.0.agent"),
        (json.dumps({**GOOD, "plan": {"nodes": [{"id": "a", "agent": "b", "retries": True}]}}).encode(),
         "invalid_field", "retries"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_a_code_and_a_sentence(body, code, words):
    """Each refusal has a stable code and says what would be right."""
    error = refused(body)
    assert error.code == code
    assert words in error.detail


@pytest.mark.parametrize(
    ("join", "field", "words"),
    [
        ({"quorum": 0}, "plan.nodes.0.join.quorum", "greater than or equal to 1, not 0"),
        ({"most": 1}, "plan.nodes.0.join.most", "'quorum', not 'most'"),
        ("some", "plan.nodes.0.join", "'all' or 'any', not 'some'"),
    ],
)
def test_of_several_forms_the_one_that_was_meant_is_explained(join, field, words):
    """A quorum of 0 was told to be 'all' or 'any', in a field with a name that nobody has written."""
    node = {"id": "a", "agent": "x", "join": join}
    with pytest.raises(WireError) as refused:
        validate({"type": "user_message", "conversation_id": "c1", "text": "x", "plan": {"nodes": [node]}})
    assert (refused.value.code, refused.value.field) == ("invalid_field", field)
    assert refused.value.detail.startswith(f"{field}: ") and words in refused.value.detail


def test_limits_come_before_decoding():
    """Size, depth and number of values are bounded."""
    assert refused(b'{"a": "' + b"x" * 200 + b'"}', max_bytes=100).code == "too_large"
    deep = b'{"a":' * 40_000 + b"1" + b"}" * 40_000
    assert "nested deeper" in refused(deep, max_bytes=10**6).detail
    barely = b'{"a":' * (MAX_DEPTH + 2) + b"1" + b"}" * (MAX_DEPTH + 2)
    assert "nested deeper" in refused(barely).detail
    assert refused(b'{"a": [' + b"{}," * 20_000 + b"{}]}").code == "too_large"


def test_fields_that_look_like_code_are_plain_data():
    """Nothing in a message names a class, a path or a statement that anybody follows."""
    text = "__class__ ../../etc; DROP TABLE x; {0.__init__}"
    assert decode(json.dumps({**GOOD, "text": text}).encode(), max_bytes=1000).text == text


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_decode_or_be_refused(body):
    """Whatever comes: a message or a WireError."""
    with contextlib.suppress(WireError):
        assert decode(body, max_bytes=1000).conversation_id


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_what_is_packed_is_unpacked_the_same(value):
    """Msgpack keeps plain data as it is."""
    assert unpack(pack(value), max_bytes=10**6) == value
