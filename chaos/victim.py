"""The child that is killed: the ordinary `serve` on a store that kills.

Arguments: group, moment, occurrence, chance (see boundaries.Kill).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from chaos.boundaries import Boundary, Kill
from chaos.killing_store import KillingStore
from config import load_settings
from persistence.contract import Store
from serving import serve


def main(arguments: Sequence[str]) -> int:
    """Serve until killed; without arguments until SIGTERM. Settings come from the environment."""
    kill = None
    if arguments:
        group, moment, occurrence, chance = arguments
        kill = Kill(Boundary(group, moment), int(occurrence), float(chance))

    def wrap(store: Store) -> Store:
        return cast("Store", KillingStore(store, kill))  # the verbs it does not name are passed on at run time

    return serve(load_settings({}), lambda: load_settings({}), wrap_store=wrap)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
