"""The driver: starts the daemon, lets clients work, waits for its death or kills it, and again; at the end asks all."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event as Flag
from typing import Any, Final

from chaos import ledger
from chaos.boundaries import Kill, schedule
from chaos.judge import Finding, Life, Sent, Verdict, judge
from chaos.process import Victim, victim_command
from chaos.scratch import Scratch
from chaos.traffic import Door, Traffic
from gateway.client import DaemonClient, DaemonError, Problem

_START: Final = 60.0
"""Seconds a daemon may take to listen, on a busy machine."""
_MEET: Final = 10.0
"""Seconds of work in which a boundary must be met; after them the daemon is killed where it is."""
_LONGEST_RANDOM: Final = 0.6
"""Seconds after listening within which a random kill falls."""
_SETTLE: Final = 90.0
"""Seconds in which everything acknowledged must have its reply once nobody kills any more."""

SETTINGS: Final[dict[str, str]] = {
    "http_bind": "127.0.0.1:0",
    "agents_from": "chaos.workers",
    "planner": "chaos.workers:plan",
    "log_level": "WARNING",
    "snapshot_every": "6",  # so that there are snapshots in the middle of turns
    "quarantine_after": "1000000",  # the daemon does die again and again here, through no fault of a conversation
    "lease_ttl": "0.4",  # a dead owner's Redis lease must end before the next daemon can serve
    "drain_timeout": "5",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole run."""

    verdict: Verdict
    lives: list[Life]
    seconds: float


class Driver:
    """One run of `kills` kills on the places that `scratch` makes."""

    def __init__(
        self,
        scratch: Scratch,
        kills: int,
        seed: int,
        *,
        command: Sequence[str] = (),
        tell: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> None:
        self._scratch = scratch
        self._kills = schedule(kills, seed)
        self._seed = seed
        self._command = list(command) or victim_command()
        self._tell = tell
        self._lives: list[Life] = []
        self._door = Door()
        self._extra: list[Sent] = []
        self._events: dict[str, list[Mapping[str, Any]]] = {}
        self._findings: list[Finding] = []
        self._number = 0
        self._victim: Victim | None = None

    def run(self) -> Outcome:
        """Kill, start, kill ...; return the verdict. Whatever it started has ended then."""
        began = time.monotonic()
        place = self._scratch.place()
        traffic = Traffic(self._door, self._seed)
        try:
            for done, kill in enumerate(self._kills):
                self._tell(done, len(self._kills))
                if kill.boundary.group == "migration":
                    self._migrate(kill)
                else:
                    self._one(place, kill)
                traffic.conversations = 8 + done // 2
            self._tell(len(self._kills), len(self._kills))
            self._settle(place, traffic)
        finally:
            self._door.closes()
            if self._victim is not None:
                self._victim.end()
        sent = [*traffic.sent, *self._extra]
        verdict = judge(sent, self._events, ledger.read(self._scratch.folder / "ledger"), self._lives)
        verdict.findings.extend(self._findings)
        return Outcome(verdict, self._lives, time.monotonic() - began)

    # Lives

    def _start(self, place: Mapping[str, str], kill: Kill | None) -> Victim:
        settings = {**SETTINGS, **place}
        self._victim = victim = Victim(self._scratch.folder, self._number, settings, kill, self._command)
        self._number += 1
        return victim

    def _one(self, place: Mapping[str, str], kill: Kill) -> None:
        victim = self._start(place, kill)
        boundary = str(kill.boundary)
        if victim.listens(_START):
            assert victim.url is not None
            self._door.opens(victim.url, victim.number)
            patience = _LONGEST_RANDOM * kill.chance if kill.boundary.group == "random" else _MEET
            if not victim.dies_within(patience) and kill.boundary.group != "random":
                boundary = f"{boundary} (never met)"
        self._door.closes()
        victim.end()
        self._lives.append(victim.life(boundary))

    def _migrate(self, kill: Kill) -> None:
        """Kill a daemon that makes a new store; the next one must find its way, and serve."""
        place = self._scratch.place()
        victim = self._start(place, kill)
        if victim.listens(_START):
            victim.end()
        victim.end()
        self._lives.append(victim.life(str(kill.boundary)))
        after = self._start(place, None)
        if after.listens(_START):
            self._try(after, f"migrated{after.number}", victim.number)
        after.end()
        self._lives.append(after.life(""))

    def _try(self, daemon: Victim, name: str, life: int) -> None:
        """Let a daemon answer one message."""
        assert daemon.url is not None
        try:
            with DaemonClient(daemon.url) as client:
                answer = client.send(name, "diamond 0.001", message_id="m", wait=_SETTLE)
                reply = answer if answer.get("type") == "reply.sent" else None
                self._extra.append(Sent(name, "m", life, answer["request_id"], reply))
                self._events[name] = list(client.events(name))
        except DaemonError as error:
            self._findings.append(Finding("ended", daemon.number, name, f"the daemon after a migration: {error}"))

    def _settle(self, place: Mapping[str, str], traffic: Traffic) -> None:
        """Start a daemon that is not killed, let it finish everything, and ask it for all journals."""
        victim = self._start(place, None)
        if victim.listens(_START):
            assert victim.url is not None
            self._door.opens(victim.url, victim.number)
            if not traffic.stop(_SETTLE):
                self._findings.append(Finding("lost", victim.number, "", "a client is still without an answer"))
            try:
                with DaemonClient(victim.url) as client:
                    self._gather(client, {one.conversation for one in traffic.sent})
            except DaemonError as error:
                self._findings.append(Finding("ended", victim.number, "", f"the last daemon: {error}"))
            victim.end(signal.SIGTERM)
        victim.end()
        self._lives.append(victim.life(""))
        self._findings.extend(Finding("lost", -1, "", f"refused: {text}") for text in traffic.refused)

    def _gather(self, client: DaemonClient, conversations: set[str]) -> None:
        deadline = time.monotonic() + _SETTLE
        waiting = sorted(conversations)
        while waiting:
            for name in waiting:
                self._events[name] = _journal(client, name)
            late = time.monotonic() > deadline
            waiting = [] if late else [name for name in waiting if not _settled(self._events[name])]
            if waiting:
                Flag().wait(0.1)


def _journal(client: DaemonClient, conversation: str) -> list[Mapping[str, Any]]:
    try:
        return list(client.events(conversation))
    except Problem as problem:
        if problem.code != "not_found":
            raise
        return []  # acknowledged, and the daemon has never heard of it: the judge will say so


def _settled(journal: Sequence[Mapping[str, Any]]) -> bool:
    kinds = [event["type"] for event in journal]
    return kinds.count("message.accepted") <= kinds.count("reply.sent")
