"""What is logged is bounded, printable and free of secrets, whatever was given."""

from __future__ import annotations

import json
import time
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetry.cleaning import _WORTH_A_LOOK, MAX_TEXT, Cleaner, _is_worth_a_look, describe, freeze, sanitise

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"

nasty = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from("\x00\x07\x08\n\r\t\x1b\x7f\x80\x85\x90\x9b\x9c\x9d\u2028\u2029\ud800" + BIDI),
        st.sampled_from("[]0;8mhttp\\\\"),
    ),
    max_size=60,
)


@given(nasty)
@example("\x1b]0;title\x07x")
@example("\x1b[31mred\x1b[0m")
@example("\x9b31m\x9dlink\x9c")
@example("a\ud800b")
def test_nothing_a_terminal_acts_on_is_left(text):
    """No C0, C1, DEL, escape, bidirectional or invisible character; it can be encoded; it is one line."""
    clean = sanitise(text)
    assert clean.isprintable()
    assert clean.encode("utf-8").decode("utf-8").splitlines() in ([clean], [])
    assert not set(clean) & set(BIDI)
    assert sanitise(clean) == clean


@given(st.from_regex(_WORTH_A_LOOK), st.text(max_size=5))
@example("CREDENT\u0131AL", "")
def test_the_quick_look_passes_by_nothing_that_the_slow_one_finds(text, more):
    assert _is_worth_a_look(text + more)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain ünïcode 漢字 🙂", "plain ünïcode 漢字 🙂"),
        ("\x1b]0;evil title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("two\nlines\tand tab", "two lines and tab"),
        ("ab\x00\x08\x7fc", "abc"),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("\x1bPdevice\x1b\\control", "control"),
    ],
)
def test_escape_sequences_go_whole(text, clean):
    """Their harmless-looking rest would be noise at best."""
    assert sanitise(text) == clean


MARK = "MARKsecret0815"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {MARK}",
        f"authorization=Basic {MARK}",
        f"got bearer {MARK}, sorry",
        f"connect to postgresql://user:{MARK}@db:5432/x failed",
        f"redis://:{MARK}@cache and amqp://u:p@{MARK}@h",
        f"password={MARK} host=db",
        f'{{"api_key": "{MARK}", "x": 1}}',
        f"https://h/cb?access_token={MARK}&state=1",
        f"client_secret: '{MARK} with blanks'",
        f"X-Api-Key: {MARK}",
        f"pass\x00word={MARK}",
        f"eyJhbGciOiJI.{MARK}.{MARK}",
        f"sk-proj-{MARK}",
    ],
)
def test_secrets_inside_texts_are_masked(text):
    """Without anybody having told us that they are secrets."""
    clean = Cleaner()({"event": "error", "level": "error", "message": text})["message"]
    assert MARK not in clean and "***" in clean


@pytest.mark.parametrize(
    "key", ["token", "api_token", "API-Key", "db_password", "Authorization", "postgres_dsn", "redis_url", "set_cookie"]
)
def test_fields_named_like_secrets_are_masked(key):
    """At any depth."""
    entry = Cleaner()({"event": "error", "level": "debug", key: MARK, "more": [{key: {"inner": MARK}}]})
    assert MARK not in json.dumps(entry)


def test_counts_and_harmless_words_are_left_alone():
    """A log that masks everything is no log."""
    fields = {"tokens": 12, "cache_key": "ab12", "idempotency_key": "k", "message": "see https://example.org/a?b=c, ok"}
    assert Cleaner()({"event": "error", "level": "info", **fields}) == {"event": "error", "level": "info", **fields}


@given(st.text(min_size=4, max_size=30).filter(lambda text: text.isprintable() and "*" not in text), nasty, nasty)
def test_known_secrets_are_masked_wherever_they_occur(secret, before, after):
    """In values, in keys, inside words, split by control characters."""
    clean = Cleaner([secret])
    split = secret[:2] + "\x00\u202e" + secret[2:]
    entry = clean({"event": "error", "level": "debug", "a": before + secret + after, secret: [split]})
    assert secret not in "\n".join(
        [*entry, *(str(value) for key, value in entry.items() if key not in {"event", "level"})]
    )


def test_a_secret_is_masked_before_a_text_is_cut():
    """Or the cut would leave its first half."""
    text = "x" * (MAX_TEXT - 5) + MARK
    clean = Cleaner([MARK])({"event": "e", "level": "info", "a": freeze(text)})["a"]
    assert len(clean) <= MAX_TEXT and "MARK" not in clean


@pytest.mark.parametrize("key", ["text", "inputs", "result", "context", "prompt", "body"])
def test_what_people_said_is_shown_at_debug_only(key):
    """Message texts and results are nobody's business but theirs."""
    for level, shown in (("debug", True), ("info", False), ("error", False)):
        entry = Cleaner()(
            {"event": "agent_progress", "level": level, key: "hello you", "nested": {key: ["hello you"]}},
            hide=level != "debug",
        )
        assert ("hello" in json.dumps(entry)) is shown


class Colour(Enum):
    RED = "red"


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError


class Hostile:
    def __repr__(self):
        raise RuntimeError

    __str__ = __repr__


def test_only_plain_data_is_kept_of_what_is_logged():
    """An object's own text might be huge, secret or an exception, so its type is all there is to see."""
    assert freeze(Colour.RED) == "red"
    assert freeze(Hostile()) == "<Hostile>"
    assert freeze(Path("/a")) == "/a"
    assert freeze(b"abc") == "<3 bytes>"
    assert freeze(ValueError("x")) == "ValueError: x"
    assert freeze(float("nan")) == "nan"
    assert freeze(10**5_000) == "<huge number>"
    assert freeze({1: (2, {3})}) == {"1": [2, [3]]}
    assert describe(Unprintable()) == "Unprintable: (its text cannot be read)"


def test_what_is_logged_is_a_copy():
    """Somebody may go on changing the list while the line waits to be written."""
    mine = [1]
    copy = freeze(mine)
    mine.append(2)
    assert copy == [1]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | nasty | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(nasty | st.integers(), inner, max_size=5),
    max_leaves=20,
)


@given(json_like)
def test_whatever_is_frozen_and_cleaned_is_strict_json(value):
    """No NaN, no surrogates, no surprises."""
    line = json.dumps(Cleaner()({"event": "e", "level": "info", "x": freeze(value)}), allow_nan=False)
    assert json.loads(line.encode())["event"] == "e"


def test_depth_and_width_are_bounded():
    """Also of what refers to itself."""
    loop: list = []
    loop.append(loop)
    assert len(json.dumps(freeze(loop))) < 100
    assert len(freeze(list(range(10**5)))) == 100
    assert len(freeze("x" * 10**7)) <= 2 * MAX_TEXT
    wide = [[["x"] * 100] * 100] * 100
    assert len(json.dumps(freeze(wide))) < 2_000


@pytest.mark.parametrize(
    "part",
    [
        "a://",
        "a.",
        "a-",
        "token",
        "token=",
        "eyJa-",
        "-eyJ",
        "sk-a-",
        "bearer ",
        "@",
        "://@",
        "\x1b]",
        "\x9b",
        "a" * 50,
        "passw ",
    ],
)
def test_no_text_takes_long_to_clean(part):
    """The pattern matcher holds the interpreter: a hostile text must not stop the daemon."""
    text = freeze("bearer://token " + part * (10_000 // len(part)))
    began = time.thread_time()
    Cleaner()({"event": "e", "level": "info", "a": text})
    assert time.thread_time() - began < 0.1
