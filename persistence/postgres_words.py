"""What went wrong with Postgres, in words for the person on call: which database and what, never a password."""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg import conninfo

from persistence.contract import StoreUnavailable

_MEANING: Final = {
    "57P01": "the server ended the connection: it was told to (a restart, a failover, or pg_terminate_backend)",
    "57P02": "the server ended all its connections, because one of its processes crashed",
}
"""Of codes whose own message says less."""
_ENDED_ON_DEMAND: Final = "terminating connection due to administrator command"
_WHY_NOT: Final = re.compile(r"^connection (?:is bad|failed): (?:[^\n]*failed: )?(?:FATAL: +|ERROR: +)?(?P<why>[^\n]+)")
"""In what the client library says about a server that it could not get into; what comes after is advice."""
_OURS: Final = re.compile(r"no answer within [\d.]+ s|the server said nothing")
_NO_ANSWER: Final = re.compile(r"timeout expired")
_NO_NAME: Final = re.compile(r"could not translate host name|failed to resolve host|Name or service not known")
_OF_A_VALUE: Final = (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError)
_BROKEN: Final = "the connection broke: the server went away or was restarted, or the network between was cut"


def unavailable(error: psycopg.Error, dsn: str) -> StoreUnavailable:
    """Return a driver's error as the contract's, in words, with the place and without the password."""
    code = f" ({error.sqlstate})" if error.sqlstate else ""
    return StoreUnavailable(without_password(f"{_place(dsn)}: {_words(error)}{code}", dsn))


def without_password(text: str, dsn: str) -> str:
    """Return a text in which neither the DSN nor its password can be read."""
    text = text.replace(dsn, "***")
    try:
        password = conninfo.conninfo_to_dict(dsn).get("password")
    except psycopg.Error:
        return text
    return text.replace(str(password), "***") if password else text


def _place(dsn: str) -> str:
    try:
        given = conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        return "Postgres"
    host = given.get("host") or given.get("hostaddr") or "the default host"
    port = f":{given['port']}" if given.get("port") else ""
    database = given.get("dbname")
    return f"Postgres{'' if database is None else f' database {database}'} at {host}{port}"


def _words(error: psycopg.Error) -> str:
    if error.sqlstate:  # the server's own words, which are for people; not their context, which is our statements
        return _MEANING.get(error.sqlstate) or error.diag.message_primary or "the server refused"
    said = str(error)
    if ours := _OURS.search(said):
        return ours.group()
    if _ENDED_ON_DEMAND in said:
        return _MEANING["57P01"]
    if _NO_NAME.search(said):
        return "the name of its host cannot be resolved"
    if _NO_ANSWER.search(said):
        return "no answer while connecting"
    if why := _WHY_NOT.search(said):
        return f"cannot be reached: {why['why']}"
    if type(error).__name__ == "PoolTimeout":
        return "no connection could be had in time: it is away, starting up, or takes no more connections"
    if isinstance(error, _OF_A_VALUE) and "connection" not in said:
        return f"{type(error).__name__}: {said.partition(chr(10))[0]}"
    return _BROKEN
