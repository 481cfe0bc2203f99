"""The verb `chaos`: makes a scratch store, runs the driver, prints what was found."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.driver import Driver, Outcome
from chaos.report import show_report
from chaos.scratch import KINDS, NoScratch, Scratch, scratch
from cli.exit_codes import DONE, FAILED, UNREACHABLE, USAGE
from cli.terminal import words


def chaos(*, kills: int, store: str, seed: int, as_json: bool, command: Sequence[str] = ()) -> int:
    """Run; return the exit code: 0 only if all held. `command` runs another daemon than the real one."""
    if store not in KINDS:
        words(f"error: --store is {store!r}; it is one of {', '.join(KINDS)}")
        return USAGE
    words(f"{kills} kills, seed {seed}, a scratch {store} store")
    step = max(1, kills // 10)

    def tell(done: int, of: int) -> None:
        if done and done % step == 0:
            words(f"{done} of {of} kills")

    try:
        with scratch(store) as made:
            outcome = _run(made, Driver(made, kills, seed, command=command, tell=tell))
            held = outcome.verdict.held
            made.keep = not held
            folder = None if held else str(made.folder)
            show_report(outcome, store=store, kills=kills, seed=seed, folder=folder, as_json=as_json)
            return DONE if held else FAILED
    except NoScratch as error:
        words(f"error: {error}")
        return UNREACHABLE


def _run(made: Scratch, driver: Driver) -> Outcome:
    try:
        return driver.run()
    except BaseException:
        words(f"ledger, logs and an SQLite store are kept in {made.folder}")
        raise
