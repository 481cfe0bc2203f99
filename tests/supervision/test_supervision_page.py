"""The table of docs/supervision.md: every behaviour once, every named test there, every conformance test named."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from config import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "supervision.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| [OA]\d+ \|", line)]
NODES = re.findall(r"`(test_conformance_\w+\.py)::(\w+)`", PAGE)


def _tests() -> set[tuple[str, str]]:
    found = set()
    for path in (ROOT / "tests" / "actors").glob("test_conformance_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add((path.name, node.name))
    return found


def test_every_behaviour_is_in_the_table_once():
    """O1 to O49 and A1 to A15, in order."""
    ids = [row.split("|")[1].strip() for row in ROWS]
    assert ids == [f"O{n}" for n in range(1, 50)] + [f"A{n}" for n in range(1, 16)]
    assert all(cell.strip() for row in ROWS for cell in row.split("|")[1:-1])


def test_every_row_names_tests_of_its_own_id_and_they_exist():
    """A test of a row carries the row's id in its name."""
    tests = _tests()
    for row in ROWS:
        cells = row.split("|")
        letter, number = cells[1].strip()[0].lower(), int(cells[1].strip()[1:])
        named = re.findall(r"`(test_conformance_\w+\.py)::(\w+)`", cells[5])
        assert named, row
        assert set(named) <= tests
        assert all(name.startswith(f"test_{letter}{number:02d}_") for _, name in named), row
    assert max(Counter(NODES).values()) == 1


def test_every_row_with_an_actor_runs_on_virtual_time_and_on_threads():
    """At least one test of each row takes the world that exists in both kinds; pure rows say that they are."""
    takes_world = set()
    for path in (ROOT / "tests" / "actors").glob("test_conformance_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and "world" in {arg.arg for arg in node.args.args}:
                takes_world.add((path.name, node.name))
    without = [
        row.split("|")[1].strip()
        for row in ROWS
        if not takes_world & set(re.findall(r"`(test_conformance_\w+\.py)::(\w+)`", row))
    ]
    assert without == ["O42"]  # calls are counted in one thread, or they could not be counted


def test_the_settings_that_the_page_names_exist_with_the_defaults_it_says():
    """The page cannot lag behind."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    said = dict(re.findall(r"\| `ORCHESTRATOR_(\w+)` \| ([\d.]+)", PAGE))
    assert {name.lower(): float(value) for name, value in said.items()} == {
        "max_retries": defaults["max_retries"],
        "base_retry_delay": defaults["base_retry_delay"],
        "max_retry_delay": defaults["max_retry_delay"],
        "retry_base": defaults["retry_base"],
        "random_factor": defaults["random_factor"],
    }
    assert defaults["reset_backoff_after"] is None
