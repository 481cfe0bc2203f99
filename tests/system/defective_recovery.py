"""The agents of the ledger, in a daemon whose core fails at taking up again the conversation that DEFECT names."""

from __future__ import annotations

import os
from typing import Any

from ledger_agents import held, wait, work

from workflow import decide

__all__ = ["held", "wait", "work"]

_recovered = decide.HANDLERS["recovered"]


def _meet_the_defect(step: Any, message: Any) -> None:
    if step.state.conversation_id == os.environ.get("DEFECT"):
        raise RuntimeError("recovery meets a defect")
    _recovered(step, message)


decide.HANDLERS["recovered"] = _meet_the_defect
