"""Bodies that nobody should send: seeded, so that each can be made again."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import msgpack

MAX_BYTES = 65_536
"""What the daemon of the test takes at most."""


class Hostile:
    """Makes one body after the other."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._addressed = True
        self._kinds: list[Callable[[], bytes]] = [
            self._fine,
            self._random,
            self._mutated,
            self._mutated,
            self._invalid_utf8,
            self._huge_number,
            self._deep,
            self._doubled_keys,
            self._not_a_number,
            self._lone_surrogate,
            self._wrong_types,
            self._missing_fields,
            self._at_the_limit,
            self._binary_zero,
            self._extension,
            self._odd_keys,
            self._lying_lengths,
        ]

    def next(self, *, addressed: bool = True) -> bytes:
        """Return one body; not `addressed`: its conversation and type may be left out, as over HTTP."""
        self._addressed = addressed
        return self.chance.choice(self._kinds)()

    def good(self) -> dict[str, Any]:
        """A message that is all right."""
        verb = self.chance.choice(["user_message"] * 4 + ["cancel", "pause", "resume"])
        if not self._addressed:
            return {"text": "hello", "message_id": f"m{self.chance.randrange(50)}", "plan": {"answer": "hello"}}
        message: dict[str, Any] = {"type": verb, "conversation_id": f"h{self.chance.randrange(20)}"}
        if verb == "user_message":
            message |= {"text": "hello", "message_id": f"m{self.chance.randrange(50)}", "plan": {"answer": "hello"}}
        return message

    def _packed(self, message: Any) -> bytes:
        return json.dumps(message).encode() if self.chance.random() < 0.5 else msgpack.packb(message)

    def _with(self, field: str, literal: str) -> bytes:
        """JSON whose field has a value written out."""
        message = {**self.good(), field: "PLACE"}
        return json.dumps(message).replace('"PLACE"', literal).encode()

    def _fine(self) -> bytes:
        return self._packed(self.good())

    def _random(self) -> bytes:
        return self.chance.randbytes(self.chance.randrange(200))

    def _mutated(self) -> bytes:
        data = bytearray(self._packed(self.good()))
        for _ in range(self.chance.randrange(1, 5)):
            where = self.chance.randrange(len(data) + 1)
            match self.chance.randrange(3):
                case 0:
                    del data[where : where + self.chance.randrange(1, 9)]
                case 1:
                    data[where:where] = self.chance.randbytes(self.chance.randrange(1, 9))
                case _:
                    data[where : where + 1] = self.chance.randbytes(1)
        return bytes(data)

    def _invalid_utf8(self) -> bytes:
        bad = self.chance.choice([b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
        return self._with("text", '"X"').replace(b'"X"', b'"' + bad + b'"')

    def _huge_number(self) -> bytes:
        literal = self.chance.choice(["9" * 5_000, "1e400", "-1e999999", "18446744073709551616", "0." + "1" * 4_000])
        return self._with(self.chance.choice(["text", "user_id", "plan", "message_id"]), literal)

    def _deep(self) -> bytes:
        depth = self.chance.choice([33, 1_000, 20_000])
        if self.chance.random() < 0.5:
            opening, closing = self.chance.choice([("[", "]"), ('{"a":', "}")])
            return self._with("plan", opening * depth + "1" + closing * depth)
        return b"\x81\xa4plan" + b"\x91" * depth + b"\x01"

    def _doubled_keys(self) -> bytes:
        if self.chance.random() < 0.5:
            return b'{"type": "user_message", "conversation_id": "h1", "conversation_id": "h2", "text": "a"}'
        return b"\x83\xa4text\xa1a\xa4text\xa1b\xa4type\xa6cancel"

    def _not_a_number(self) -> bytes:
        if self.chance.random() < 0.3:
            return msgpack.packb({**self.good(), "plan": {"nodes": [float("nan"), float("inf")]}})
        inputs = self.chance.choice(["NaN", "Infinity", "-Infinity"])
        return self._with("plan", '{"nodes": [{"id": "a", "agent": "work", "inputs": {"x": ' + inputs + "}}]}")

    def _lone_surrogate(self) -> bytes:
        field = self.chance.choice(["text", "message_id", "user_id", "conversation_id"])
        return self._with(field, self.chance.choice([r'"\ud800"', r'"\udc00a"', r'"a\udbff"']))

    def _wrong_types(self) -> bytes:
        wrong = self.chance.choice([None, True, 1, -1.5, [], {}, [[]], {"a": 1}, "", "x" * 300])
        message = self.good()
        return self._packed({**message, self.chance.choice([*message, "unknown"]): wrong})

    def _missing_fields(self) -> bytes:
        message = self.good()
        for _ in range(self.chance.randrange(1, len(message) + 1)):
            message.pop(self.chance.choice(list(message)))
        return self._packed(message)

    def _at_the_limit(self) -> bytes:
        size = MAX_BYTES + self.chance.choice([-300, -120, -1, 0, 1, 2_000])
        character = self.chance.choice(["x", "é", "\U0001f600", "\\"])
        return self._packed({**self.good(), "text": character * (size // len(character.encode()))})

    def _binary_zero(self) -> bytes:
        field = self.chance.choice(["text", "message_id", "conversation_id"])
        return self.chance.choice([b"\0" * 50, self._packed({**self.good(), field: "a\0b"}), b"\0" + self._mutated()])

    def _extension(self) -> bytes:
        code = self.chance.choice([-1, 0, 5, 127])
        data = self.chance.randbytes(self.chance.choice([0, 1, 4, 8, 12, 300]))
        return msgpack.packb({**self.good(), "text": msgpack.ExtType(code, data) if code >= 0 else "x"}) + (
            b"" if code >= 0 else b"\xc7\x04\xff" + data[:4]
        )

    def _odd_keys(self) -> bytes:
        key = self.chance.choice([b"\x90", b"\x91\x01", b"\x80", b"\xc0", b"\x01", b"\xc4\x01a", b"\xcb" + b"\x7f" * 8])
        return b"\x82" + key + b"\x01\xa4type\xa6cancel"

    def _lying_lengths(self) -> bytes:
        kind = self.chance.choice([b"\xdf", b"\xdd", b"\xdb", b"\xc6", b"\xc9"])
        return b"\x81\xa4text" + kind + struct.pack(">I", self.chance.choice([0xFFFFFFFF, 100_000, 5])) + b"a"
