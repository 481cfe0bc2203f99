"""What settings describe is built as they say."""

from __future__ import annotations

from typing import Any

import pytest

from building import store_address
from config import Settings


@pytest.mark.parametrize(
    ("kind", "one", "same", "other"),
    [
        ("redis", "redis://:hidden@host:1/0", "redis://me:ch@nged@host:1/0", "redis://:hidden@host:1/1"),
        ("redis", "unix://:hidden@/run/r.sock", "unix:///run/r.sock", "unix://:hidden@/run/s.sock"),
        ("postgres", "postgresql://u:hidden@h/d", "postgresql://u:changed@h/d", "postgresql://u:hidden@h/e"),
        (
            "postgres",
            "postgresql:///d?password=hidden&host=/h",
            "postgresql:///d?password=x&host=/h",
            "postgresql:///d",
        ),
        (
            "postgres",
            "host=h password=hidden dbname=d",
            r"host=h password = 'it\'s changed' dbname=d",
            "host=h password=hidden dbname=e",
        ),
    ],
)
def test_an_address_holds_no_password_and_does_not_depend_on_it(kind: str, one: str, same: str, other: str) -> None:
    def address(url: str) -> str:
        given: Any = {"state_storage": kind, "redis_url" if kind == "redis" else "postgres_dsn": url}
        return store_address(Settings(**given), kind)

    assert "hidden" not in address(one)
    assert address(one) == address(same)
    assert address(one) != address(other)


def test_a_store_without_a_server_has_no_address() -> None:
    assert store_address(Settings(), "sqlite") == ""
