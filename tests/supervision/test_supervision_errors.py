"""What exceptions mean for a retry."""

import asyncio
import concurrent.futures
import errno
import http.client
import json
import socket
import sqlite3
import ssl
from email.utils import formatdate
from types import SimpleNamespace

import httpx2
import psycopg
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from supervision.error_text import clean
from supervision.errors import ErrorClass, classify

T, P, F = ErrorClass.TRANSIENT, ErrorClass.PERMANENT, ErrorClass.FATAL


def with_fields(error, **fields):
    """Return the exception with attributes of a client library."""
    for name, value in fields.items():
        setattr(error, name, value)
    return error


class Odd(Exception):
    """Nobody knows this one."""


class SubTimeout(TimeoutError):
    """More specific than a timeout."""


class ForeignConnectionError(Exception):
    """A client library's own, which does not derive from Python's."""


ForeignConnectionError.__name__ = "ConnectionError"


class RefusedForGood(ConnectionError, ValueError):
    """The first base wins."""


def pydantic_error():
    try:
        TypeAdapter(int).validate_python("x")
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), T),
        (asyncio.CancelledError(), T),
        (concurrent.futures.CancelledError(), T),
        (ConnectionResetError(), T),
        (BrokenPipeError(), T),
        (InterruptedError(), T),
        (BlockingIOError(), T),
        (OSError(errno.EAGAIN, "again"), T),
        (OSError(errno.EHOSTUNREACH, "no route"), T),
        (OSError(errno.ENETUNREACH, "no network"), T),
        (OSError(errno.EMFILE, "too many open files"), T),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), T),
        (sqlite3.OperationalError("database is locked"), T),
        (ForeignConnectionError(), T),
        (sqlite3.OperationalError("database or disk is full"), T),
        (sqlite3.OperationalError("no such table: x"), P),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), P),
        (sqlite3.DatabaseError("database disk image is malformed"), P),
        (redis.exceptions.ConnectionError(), T),
        (redis.exceptions.TimeoutError(), T),
        (redis.exceptions.BusyLoadingError(), T),
        (redis.exceptions.ReadOnlyError(), T),
        (redis.exceptions.OutOfMemoryError(), T),
        (redis.exceptions.AuthenticationError(), P),
        (redis.exceptions.NoPermissionError(), P),
        (redis.exceptions.ResponseError("WRONGTYPE"), P),
        (psycopg.OperationalError("server closed the connection"), T),
        (psycopg.errors.DeadlockDetected(), T),
        (psycopg.errors.QueryCanceled(), T),
        (psycopg.errors.UniqueViolation(), P),
        (psycopg.ProgrammingError("the query has 1 placeholder"), P),
        (ssl.SSLError(1, "handshake"), T),
        (ssl.SSLCertVerificationError(1, "certificate has expired"), P),
        (http.client.IncompleteRead(b""), T),
        (http.client.BadStatusLine("x"), T),
        (httpx2.ReadTimeout("slow"), T),
        (httpx2.ConnectError("refused"), T),
        (httpx2.TooManyRedirects("round"), P),
        (RefusedForGood(), T),
        (FileNotFoundError(errno.ENOENT, "no such file"), P),
        (PermissionError(), P),
        (TypeError(), P),
        (ValueError(), P),
        (KeyError("k"), P),
        (IndexError(), P),
        (AttributeError(), P),
        (AssertionError(), P),
        (ZeroDivisionError(), P),
        (NotImplementedError(), P),
        (ImportError(), P),
        (NameError(), P),
        (RecursionError(), P),
        (json.JSONDecodeError("bad", "x", 0), P),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), P),
        (pydantic_error(), P),
        (MemoryError(), F),
        (SystemExit(1), F),
        (SystemExit(503), F),  # an exit code is no HTTP status
        (KeyboardInterrupt(), F),
        (GeneratorExit(), F),
        (BaseException(), F),
    ],
    ids=repr,
)
def test_known_types_have_their_class(error, expected):
    found = classify(error)
    assert (found.error_class, found.once) == (expected, False)


@pytest.mark.parametrize(
    "error",
    [Odd("?"), RuntimeError("?"), OSError(errno.EIO, "input/output")],
    ids=repr,
)
def test_what_nobody_knows_is_transient_but_retried_once_only(error):
    found = classify(error)
    assert (found.error_class, found.once) == (T, True)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(408, T), (409, T), (425, T), (429, T), (500, T), (503, T), (599, T), (400, P), (401, P), (404, P), (422, P)],
)
@pytest.mark.parametrize("attribute", ["status_code", "status", "code", "response.status_code"])
def test_an_http_status_tells(status, expected, attribute):
    if attribute == "response.status_code":
        error = with_fields(Odd(), response=SimpleNamespace(status_code=status))
    else:
        error = with_fields(Odd(), **{attribute: status})
    assert classify(error).error_class is expected
    assert not classify(error).once


@pytest.mark.parametrize("value", [True, "404", 404.0, None, 200, 1006, 600])
def test_what_is_no_error_status_tells_nothing(value):
    assert classify(with_fields(Odd(), status_code=value)).once


def test_a_status_wins_over_the_type():
    assert classify(with_fields(ValueError(), status_code=503)).error_class is T


@pytest.mark.parametrize("value", ["transient", "permanent", "fatal"])
def test_an_exception_may_say_its_class(value):
    assert classify(with_fields(Odd(), error_class=value, status_code=404)).error_class == value


def test_a_class_that_does_not_exist_says_nothing():
    assert classify(with_fields(Odd(), error_class="serious")).once


def test_an_exception_may_say_its_coded_type():
    assert classify(with_fields(ValueError(), error_type="contract_violation")).type == "contract_violation"
    assert classify(ValueError()).type == "ValueError"


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("08006", T),
        ("40001", T),
        ("40P01", T),
        ("53300", T),
        ("55P03", T),
        ("57P01", T),
        ("23505", P),
        ("42601", P),
        ("40002", P),
    ],
)
def test_an_sqlstate_tells(sqlstate, expected):
    assert classify(with_fields(Odd(), sqlstate=sqlstate)).error_class is expected
    assert classify(with_fields(Odd(), pgcode=sqlstate)).error_class is expected


# The agent's own lists


@pytest.mark.parametrize(
    ("error", "transient", "permanent", "expected"),
    [
        (Odd(), (Odd,), (), T),
        (Odd(), (), (Odd,), P),
        (SubTimeout(), (SubTimeout,), (TimeoutError,), T),  # the nearer type wins
        (SubTimeout(), (TimeoutError,), (SubTimeout,), P),
        (SubTimeout(), (OSError,), (Exception,), T),
        (Odd(), (Odd,), (Odd,), P),  # permanent wins a tie
        (ValueError(), (ValueError,), (), T),
        (SystemExit(1), (SystemExit,), (), T),
        (with_fields(Odd(), error_class="fatal", status_code=500), (), (Odd,), P),
    ],
    ids=str,
)
def test_an_agents_own_lists_come_first(error, transient, permanent, expected):
    found = classify(error, transient=transient, permanent=permanent)
    assert (found.error_class, found.once) == (expected, False)


# Groups


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([TimeoutError(), ConnectionError()], T),
        ([TimeoutError(), ValueError()], P),
        ([ValueError(), MemoryError(), TimeoutError()], F),
        ([TimeoutError(), ExceptionGroup("inner", [KeyError("deep")])], P),
    ],
    ids=str,
)
def test_a_group_is_as_bad_as_its_worst_member(members, expected):
    assert classify(ExceptionGroup("several", members)).error_class is expected


def test_a_group_names_its_worst_member():
    found = classify(ExceptionGroup("two failed", [TimeoutError("slow"), ValueError("bad sku")]))
    assert found.message == "two failed (2 sub-exceptions): ValueError: bad sku"
    assert found.type == "ExceptionGroup"


def test_an_agents_own_list_may_name_groups():
    assert classify(ExceptionGroup("g", [ValueError()]), transient=(ExceptionGroup,)).error_class is T


def test_a_group_of_interrupts_is_fatal():
    assert classify(BaseExceptionGroup("g", [KeyboardInterrupt()])).error_class is F


def test_groups_that_share_members_and_nest_deeply_cost_little():
    group = ExceptionGroup("g", [ValueError("x"), TimeoutError()])
    for _ in range(5000):
        group = ExceptionGroup("g", [group, group])
    assert classify(group).error_class is P


def test_an_unknown_member_makes_a_transient_group_retried_once():
    assert classify(ExceptionGroup("g", [TimeoutError(), Odd()])).once
    assert not classify(ExceptionGroup("g", [TimeoutError()])).once


# Retry-After

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7.0),
        (0.5, 0.5),
        ("7", 7.0),
        (-3, 0.0),
        ("-3", 0.0),
        (10**400, None),
        (1e12, 86_400.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (True, None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("9" * 1000, None),
        ("", None),
        (None, None),
        ([], None),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["attribute", "response", "headers"])
def test_retry_after_is_read_where_libraries_put_it(value, expected, place):
    if place == "attribute":
        error = with_fields(Odd(), retry_after=value)
    elif place == "response":
        error = with_fields(Odd(), response=SimpleNamespace(headers={"Retry-After": value}))
    else:
        error = with_fields(Odd(), headers={"retry-after": value})
    assert classify(error, now_s=NOW).retry_after == expected


def test_a_date_needs_the_clock():
    assert classify(with_fields(Odd(), retry_after=formatdate(NOW, usegmt=True))).retry_after is None


def test_rubbish_in_the_attribute_does_not_hide_the_header():
    error = with_fields(Odd(), retry_after="soon", response=SimpleNamespace(headers={"Retry-After": "4"}))
    assert classify(error).retry_after == 4.0


def test_a_group_waits_for_the_one_that_asked_longest():
    group = ExceptionGroup("g", [with_fields(Odd(), retry_after=3), with_fields(Odd(), retry_after=9)])
    assert classify(group).retry_after == 9.0


def test_a_429_says_nothing_about_health():
    assert not classify(with_fields(Odd(), status=429)).counted
    assert classify(with_fields(Odd(), status=503)).counted


# Hostile exceptions


class Hostile(Exception):
    """Raises whenever it is looked at."""

    def __str__(self):
        raise SystemExit

    __repr__ = __str__

    @property
    def status_code(self):
        raise KeyboardInterrupt

    @property
    def response(self):
        raise RuntimeError


def test_an_exception_that_cannot_be_looked_at_is_still_classed():
    found = classify(Hostile())
    assert (found.type, found.error_class, found.message) == ("Hostile", T, "(its text cannot be read)")


@pytest.mark.parametrize("wrap", [ValueError, KeyError, lambda text: ValueError(text, 1), lambda t: ValueError([t])])
def test_a_message_of_100_mb_is_clipped_without_copying_it(wrap):
    import tracemalloc

    error = wrap("x" * 100_000_000)
    tracemalloc.start()
    found = classify(error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.message) <= 500
    assert peak < 1_000_000


def test_a_hundred_megabytes_of_bytes_are_clipped_without_copying_them():
    assert len(classify(ValueError(bytes(100_000_000))).message) <= 500


def test_control_characters_do_not_reach_a_log():
    assert classify(ValueError("a\x1b[31m\nb\u202ec\ud800")).message == "a [31m b c"


def test_an_exception_without_words_is_named():
    assert classify(TimeoutError()).message == "TimeoutError"


@given(st.text(max_size=2000))
def test_a_cleaned_text_is_short_and_printable(text):
    cleaned = clean(text)
    assert len(cleaned) <= 500
    assert cleaned.isprintable()
