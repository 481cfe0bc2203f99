"""The simulation can find defects: each one that is planted is found within a bounded number of seeds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulation.mutants import MUTANTS, find

BUDGET = 1_000
"""Seeds."""


PAGE = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (.+?) \| (\d+) \| ", re.MULTILINE)
LAST_TIME = {name: int(seed) for name, seed in ROW.findall(PAGE)}
"""Where the page says that each was found: it is found there again, unless the simulation has changed."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_defect_is_found(mutant):
    """If not, the simulation would not see it in the product either."""
    assert find(mutant, BUDGET, LAST_TIME.get(mutant.name, 0)) is not None


def test_the_page_lists_every_planted_defect():
    """Where it was found may change with the simulation; what is looked for must be said."""
    assert [mutant.name for mutant in MUTANTS if mutant.name not in LAST_TIME] == []
