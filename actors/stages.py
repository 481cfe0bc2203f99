"""How far an actor is in its life."""

from __future__ import annotations

from typing import Final

# The order counts: from STOPPING on an actor takes no more children.
STARTING: Final = 0
LIVE: Final = 1
STOPPING: Final = 2
FAILING: Final = 3
ENDED: Final = 4
