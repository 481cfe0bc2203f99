"""Every test has a shop of its own, without artificial delay."""

from __future__ import annotations

import pytest

from agents.registry import Registry


@pytest.fixture(autouse=True)
def own_shop(tmp_path, monkeypatch):
    """The database lies alone in a directory of this test."""
    monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / "own" / "shop.db"))
    monkeypatch.setenv("SHOP_DELAY", "0")
    monkeypatch.delenv("SHOP_FAILURE_RATE", raising=False)


@pytest.fixture(scope="session")
def shop_registry():
    return Registry.from_config(["examples.shop.agents"], {})
