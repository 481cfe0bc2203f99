"""Draws docs/states.md from the transition table, so that the picture cannot lie.

`python -m workflow.diagram` prints it; a test holds the file equal.
"""

from __future__ import annotations

import sys

from workflow.phases import ONWARD, TABLE, next_phases
from workflow.state import Phase

_HEAD = """# Phases of a conversation

Drawn from the table in `workflow/phases.py` by `python -m workflow.diagram`; a test fails when this file is stale.

An arrow means that one phase can directly follow another. What is not in the table is illegal: the message raises,
changes nothing and becomes a dead letter with its reason.
"""


def render() -> str:
    """Return the whole page as Markdown."""
    parts = [_HEAD, "```mermaid", "stateDiagram-v2", "    [*] --> initializing"]
    parts.extend(f"    {here} --> {there}" for here in Phase for there in Phase if there in next_phases(here))
    parts.extend(
        ["```", "", "## What each phase takes", "", "| phase | messages | moves on to by itself |", "|---|---|---|"]
    )
    for phase in Phase:
        messages = ", ".join(f"`{kind.__name__}`" for kind in TABLE[phase]) or "nothing: passed through within one step"
        onward = ", ".join(there for there in Phase if there in ONWARD[phase]) or "nothing until a message comes"
        parts.append(f"| `{phase}` | {messages} | {onward} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
