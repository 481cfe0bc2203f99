"""The pages lead where they say: links, headings, and the tests they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
TESTS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}


def anchors(page: Path) -> set[str]:
    """Return the headings of a page, spelt as links to them are."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        assert not heading or heading in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page):
    here = ""
    for file, test in re.findall(r"`(?:[\w/]*/)?(test_\w+\.py)?(?:::(test_\w+))?", page.read_text(encoding="utf-8")):
        here = file or here
        if file:
            assert file in TESTS, f"there is no {file}"
        if test:
            assert f"def {test}(" in TESTS[here], f"{here} has no {test}"


def test_what_is_to_be_watched_is_a_metric():
    """An alert on a name that nothing exports never rings."""
    [watched] = re.findall(
        r"## What to watch\n(.*?)\n## ", (ROOT / "docs/operations.md").read_text(encoding="utf-8"), re.DOTALL
    )
    conditions = " ".join(line.split(" | ")[0] for line in watched.splitlines())
    names = set(re.findall(r"orchestrator_\w+", conditions))
    known = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/logs.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert len(names) > 10
    assert names - {"orchestrator_process_start_time_seconds"} <= known
