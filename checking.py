"""Looks before anything runs: configuration, agents, contracts, stores; and brings a store's schema up to date."""

from __future__ import annotations

import sys
from typing import Any, Protocol, runtime_checkable

from agents.errors import AgentDefinitionError
from building import build_registry, build_store, owner_name
from cli.exit_codes import BAD_CONFIGURATION, DONE, FAILED
from cli.terminal import json_line, result, words
from config import Settings, cautions
from conversation import journal
from persistence.contract import Store, StoreError
from persistence.open_store import UnknownStore
from planning.load import load_planner
from planning.schema_paths import can_have
from serving import explain_failure
from synthesis.load import load_synthesizer
from synthesis.template import fields_named

_PAGE = 500


@runtime_checkable
class _Schema(Protocol):
    """What the SQL stores have beside the contract."""

    def migration_status(self) -> list[tuple[str, bool]]:
        """Return (migration, applied) for every known migration, in order; change nothing."""


def check(settings: Settings, *, as_json: bool, store: bool = False) -> int:
    """Validate everything that can be validated without starting anything; 78 when something is wrong.

    With `store` instead: decode every stored conversation with this build; 1 when one cannot be read.
    """
    if store:
        return _check_conversations(settings, as_json=as_json)
    found: dict[str, Any] = {"ok": True, "problems": [], "cautions": list(cautions(settings)), "agents": []}
    _try(found, "agents", lambda: _check_agents(settings, found))
    _try(found, "store", lambda: _check_store(settings, found))
    found["ok"] = not found["problems"]
    if as_json:
        json_line(found)
    else:
        for agent in found["agents"]:
            result(f"agent {agent['name']}({', '.join(agent['inputs'])}) [{agent['isolation']}, {agent['effects']}]")
        result(f"store {found.get('store', 'not looked at')}")
        for caution in found["cautions"]:
            words(f"caution: {caution}")
        for problem in found["problems"]:
            words(f"problem: {problem}")
        result("all is well" if found["ok"] else f"{len(found['problems'])} problem(s)")
    return DONE if found["ok"] else BAD_CONFIGURATION


def migrate(settings: Settings, *, as_json: bool, status: bool = False) -> int:
    """Apply what is missing in the store's schema, which needs the store to itself; with `status` only tell."""
    try:
        store = build_store(settings)
        if not isinstance(store, _Schema):
            nothing: dict[str, list[str]] = {"migrations": []} if status else {"applied": []}
            json_line({"store": store.kind, **nothing}) if as_json else result(f"{store.kind}: there is no schema")
            return DONE
        before = dict(store.migration_status())
        if status:
            return _tell_migrations(store.kind, before, as_json=as_json)
        store.open(owner_name())
        store.close()
    except (StoreError, UnknownStore, OSError) as error:
        explained = explain_failure(error)
        assert explained is not None
        words(explained[1])
        return explained[0]
    applied = [name for name, was_there in before.items() if not was_there]
    if as_json:
        json_line({"store": store.kind, "applied": applied})
    else:
        result(*(f"applied {name}" for name in applied) if applied else ("the schema is up to date",))
    return DONE


def _check_conversations(settings: Settings, *, as_json: bool) -> int:
    try:
        store = build_store(settings)
        there = store.open_reading()
        try:
            count, unreadable = read_everything(store) if there else (0, [])
        finally:
            store.close()
    except (StoreError, UnknownStore, OSError) as error:
        explained = explain_failure(error)
        assert explained is not None
        words(explained[1])
        return explained[0]
    lost = sum(not found["journal"] for found in unreadable)
    if as_json:
        json_line({"store": store.kind, "checked": count, "unreadable": unreadable})
    else:
        for found in unreadable:
            saved = "; its journal stands in" if found["journal"] else ""
            result(f"{found['conversation_id']}: {found['reason']}{saved}")
        told = f"{count} conversations looked at, {lost} of them cannot be read"
        result(told if there else "there is nothing in the store yet")
    return FAILED if lost else DONE


def read_everything(store: Store) -> tuple[int, list[dict[str, Any]]]:
    """Return how many conversations a store holds, and which this build cannot wake as they are stored, with why.

    `journal` is true where the whole journal stands in for a snapshot that cannot be read, as it does at waking.
    """
    count, unreadable = 0, []
    after: tuple[int, str] | None = None
    while rows := store.conversations(phase=None, after=after, limit=_PAGE):
        for row in rows:
            reason, journal_helps = _read(store, row.conversation_id)
            if reason is not None:
                found = {"conversation_id": row.conversation_id, "reason": reason, "journal": journal_helps}
                unreadable.append(found)
        count += len(rows)
        after = rows[-1].updated_at, rows[-1].conversation_id
        if sys.stderr.isatty():
            words(f"{count} conversations read")
    return count, unreadable


def _read(store: Store, conversation_id: str) -> tuple[str | None, bool]:
    try:
        journal.wake(store.load(conversation_id, recent=1))
    except journal.UNREADABLE as error:
        try:
            journal.wake(store.load(conversation_id, recent=1, whole=True))
        except journal.UNREADABLE:
            return str(error), False
        return str(error), True
    return None, False


def _tell_migrations(kind: str, migrations: dict[str, bool], *, as_json: bool) -> int:
    if as_json:
        json_line({"store": kind, "migrations": [{"name": name, "applied": was} for name, was in migrations.items()]})
    else:
        result(*(f"{name} {'applied' if was else 'missing'}" for name, was in migrations.items()))
    return DONE


def _try(found: dict[str, Any], what: str, look: Any) -> None:
    try:
        look()
    except (AgentDefinitionError, UnknownStore, StoreError, OSError) as error:
        found["problems"].append(f"{what}: {error}")


def _check_agents(settings: Settings, found: dict[str, Any]) -> None:
    registry = build_registry(settings)
    load_planner(settings.planner, registry)
    load_synthesizer(settings.synthesizer, registry)
    found["agents"] = [
        {
            "name": spec.name,
            "inputs": list(spec.contract.fields),
            "contract": spec.contract.version,
            "isolation": "loop" if spec.is_async else spec.isolation,
            "effects": spec.effects,
        }
        for spec in registry
    ]
    for spec in registry:
        schema = spec.contract.output_schema
        for field in fields_named(spec.reply or ""):
            if can_have(schema, field.split(".")) is None:
                caution = f"agent {spec.name}: its reply names {field}, which its result never has; it is not used"
                found["cautions"].append(caution)
    if not len(registry):
        found["cautions"].append("there are no agents: set agents_from, or declare some in orchestrator.toml")


def _check_store(settings: Settings, found: dict[str, Any]) -> None:
    store = build_store(settings)
    found["store"] = f"sqlite at {settings.sqlite_path}" if store.kind == "sqlite" else store.kind
    if isinstance(store, _Schema):
        missing = [name for name, applied in store.migration_status() if not applied]
        found["store"] += f", {len(missing)} migration(s) to apply" if missing else ""
