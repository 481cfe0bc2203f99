"""The picture of the phases is the table."""

from pathlib import Path

from workflow.diagram import render


def test_the_state_diagram_in_the_docs_is_the_table():
    """Run `python -m workflow.diagram > docs/states.md` after a change of the table."""
    page = Path(__file__).parents[2] / "docs" / "states.md"
    assert page.read_text(encoding="utf-8") == render()
