"""The simulation can find defects: each one that is planted is found within a bounded number of seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.mutants import MUTANTS, find

BUDGET = 1_000
"""Seeds."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_defect_is_found(mutant):
    """If not, the simulation would not see it in the product either."""
    assert find(mutant, BUDGET) is not None


def test_the_page_lists_every_planted_defect():
    """Where it was found may change with the simulation; what is looked for must be said."""
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    assert [mutant.name for mutant in MUTANTS if f"| {mutant.name} |" not in page] == []
