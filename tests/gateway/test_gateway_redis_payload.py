"""Bytes from Redis: what is taken, as what, and what is refused. No server."""

from __future__ import annotations

import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redis_payload import from_channel, from_entry, is_object, readable
from messages.inbound import Cancel, UserMessage
from messages.wire import WireError

HELLO = {"type": "user_message", "conversation_id": "c1", "text": "hello"}
LIMIT = 65_536


def refusal(data, conversation_id=None):
    with pytest.raises(WireError) as caught:
        from_channel(data, conversation_id, max_bytes=LIMIT)
    return caught.value.code


@pytest.mark.parametrize("encode", [lambda value: json.dumps(value).encode(), msgpack.packb])
def test_json_and_msgpack_are_told_by_the_first_byte(encode):
    for channel in (None, "c1"):
        assert from_channel(encode(HELLO), channel, max_bytes=LIMIT) == UserMessage(conversation_id="c1", text="hello")
    assert from_channel(encode({"type": "cancel"}), "c1", max_bytes=LIMIT) == Cancel(conversation_id="c1")


def test_plain_text_is_taken_on_a_conversations_own_channel_only():
    assert from_channel(b"hello there", "c1", max_bytes=LIMIT).text == "hello there"
    assert refusal(b"hello there") == "invalid_body"


def test_a_body_that_names_another_conversation_than_its_channel_is_refused():
    assert refusal(json.dumps(HELLO).encode(), "c2") == "invalid_field"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "invalid_field"),
        (b"\xff\xfe", "invalid_body"),
        (b"nul \x00 inside", "invalid_field"),
        (b"x" * (LIMIT + 1), "too_large"),
        (b"{" + b" " * LIMIT + b"}", "too_large"),
        (b'{"type": "user_message", "text": "a", "text": "b"}', "invalid_body"),
        (b'{"type": "user_message", "text": "a", "colour": 1}', "invalid_field"),
        (b'{"type": "run_code", "text": "a"}', "unsupported_type"),
        (b'{"type": "user_message", "text": NaN}', "invalid_body"),
        (b"{not json", "invalid_body"),
        (b'{"a":' * 5_000, "invalid_body"),
        (msgpack.packb({"type": msgpack.ExtType(1, b"x")}), "invalid_body"),
        (msgpack.packb(HELLO) + b"\x00", "invalid_body"),
        (b"\xdf\xff\xff\xff\xff", "invalid_body"),
    ],
)
def test_what_is_no_message_is_refused_with_a_code(data, code):
    assert refusal(data, "c1") == code


def test_a_channel_that_names_no_conversation_is_refused():
    assert refusal(b"hello", "c 1") == "invalid_conversation_id"
    assert refusal(b"hello", "") == "invalid_conversation_id"


@given(st.text(min_size=1, max_size=200).filter(lambda text: not text.lstrip(" \t\r\n").startswith("{")))
def test_every_text_that_does_not_begin_an_object_is_text(text):
    """Also texts whose first byte could begin a msgpack map."""
    data = text.encode()
    assert not is_object(data)
    if "\x00" not in text:
        assert from_channel(data, "c1", max_bytes=LIMIT).text == text


@given(st.dictionaries(st.text(max_size=3), st.integers(-9, 2**31), max_size=40))
def test_every_msgpack_map_is_taken_for_one(fields):
    assert is_object(msgpack.packb(fields))


def test_an_entry_without_a_message_id_gets_the_same_one_each_time():
    fields = {b"message": json.dumps(HELLO).encode()}
    first, second = (from_entry("17-0", fields, max_bytes=LIMIT) for _ in range(2))
    assert first == second
    assert first.message_id == "inbox-17-0"
    named = {b"message": json.dumps({**HELLO, "message_id": "m1"}).encode()}
    assert from_entry("17-0", named, max_bytes=LIMIT).message_id == "m1"


@pytest.mark.parametrize("fields", [{}, {b"text": b"hi"}, {b"message": b"{}", b"more": b""}])
def test_an_entry_has_one_field(fields):
    with pytest.raises(WireError, match="the one field 'message'"):
        from_entry("1-0", fields, max_bytes=LIMIT)


@given(st.binary(max_size=300))
def test_whatever_was_refused_can_be_shown(data):
    """A dead letter is plain data: object, text, or bytes in base64."""
    shown = readable(data)
    assert json.loads(json.dumps(shown)) == shown


def test_a_large_refused_payload_is_clipped():
    assert readable(b"\xff" * 100_000)["bytes"] == 100_000
    assert len(json.dumps(readable("é".encode() * 100_000))) < 250_000
