"""Where settings come from: flag, environment, TOML file, default; and every problem with them, said at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, TomlConfigSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from config.fields import PREFIX, about, accepted_form, choices, closest, is_secret, looks_secret, mask, plain, show

S = TypeVar("S", bound=BaseSettings)

FILE_NAME: Final = "orchestrator.toml"

_AGENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
"""As messages/base.py has it."""

_SERVICE_LINKS: Final = re.compile(r"SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_\d+_(TCP|UDP)(_(ADDR|PORT|PROTO))?)?")
"""What Kubernetes puts into every container beside a Service named `orchestrator`: not meant for us, so not unknown."""


@dataclass(frozen=True, slots=True)
class Combination(Generic[S]):
    """Settings that make no sense together."""

    names: tuple[str, ...]
    """The settings involved; the first is the one the problem is reported for."""
    is_wrong: Callable[[S], bool]
    says: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration."""

    name: str
    """The setting, as its source spells it."""
    says: str
    """A sentence naming the value (secrets masked), where it came from, and what would be accepted."""


class ConfigError(Exception):
    """The configuration cannot be used; exit code 78."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        super().__init__("\n".join([f"{head} in the configuration:", *(f"- {p.says}" for p in self.problems)]))


def load(
    model: type[S],
    table: type[BaseModel],
    combinations: Iterable[Combination[S]],
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str] | None,
    cwd: Path,
) -> tuple[S, dict[str, str]]:
    """Return the checked settings and the origin of each that is not at its default. Raises `ConfigError`."""
    environ = os.environ if environ is None else environ
    found = _Found(model)
    given = {name: value for name, value in flags.items() if value is not None}
    path = _file(given, environ, cwd, found)
    found.take(given, lambda _: "flag", lambda name: "--" + name.replace("_", "-"))
    found.take(_from_environment(model, environ, found), _environment_origin, lambda name: PREFIX + name.upper())
    if path is not None:
        found.take(_from_file(model, path, found), lambda _: f"file {path}", lambda name: name)
        found.values["config"] = path
    for name, field in model.model_fields.items():
        fallback = about(field).fallback
        if fallback and name not in found.values and environ.get(fallback):
            found.take_fallback(name, fallback, environ[fallback])
    return found.check(table, combinations), found.origins


def _environment_origin(name: str) -> str:
    return f"environment {PREFIX}{name.upper()}"


def _file(flags: Mapping[str, Any], environ: Mapping[str, str], cwd: Path, found: _Found[Any]) -> Path | None:
    named = flags.get("config") or environ.get(f"{PREFIX}CONFIG")
    path = cwd / str(named or FILE_NAME)
    if path.is_file():
        return path
    if named:
        origin = "flag --config" if flags.get("config") else f"environment {PREFIX}CONFIG"
        found.problems.append(Problem("config", f"config = {str(named)!r} ({origin}): there is no such file"))
    return None


def _from_environment(model: type[BaseSettings], environ: Mapping[str, str], found: _Found[Any]) -> dict[str, Any]:
    known: dict[str, str] = {}
    for key, value in environ.items():
        name = key[len(PREFIX) :]
        if key.upper().startswith(PREFIX) and not _SERVICE_LINKS.fullmatch(name.upper()):
            head, *rest = name.lower().split("__")
            # ORCHESTRATOR_AGENTS__STOCK__TIMEOUT: the name of an agent and one option.
            if head in model.model_fields and (not rest or (head == "agents" and len(rest) == 2 and all(rest))):
                known[key] = value
            else:
                found.unknown(key, value, "environment", lambda near: PREFIX + near.upper(), head)
    source = EnvSettingsSource(model)
    source.env_vars = parse_env_vars(known, ignore_empty=True)
    return dict(source())


def _from_file(model: type[BaseSettings], path: Path, found: _Found[Any]) -> dict[str, Any]:
    try:
        values = dict(TomlConfigSettingsSource(model, toml_file=path)())
    except (TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        why = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else f"is not TOML: {error}"
        found.problems.append(Problem("config", f"file {path} {why}"))
        return {}
    for key in [key for key in values if key not in model.model_fields or key == "config"]:
        value = values.pop(key)
        if key == "config":
            found.problems.append(Problem(key, f"config = {value!r} (file {path}): a file cannot name another file"))
        else:
            found.unknown(key, value, f"file {path}", lambda near: near, key)
    return values


class _Found(Generic[S]):
    """What was found so far: the values that count, where they came from, and what is wrong."""

    def __init__(self, model: type[S]) -> None:
        self.model = model
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._spelled: dict[str, str] = {}

    def take(self, values: Mapping[str, Any], origin: Callable[[str], str], spell: Callable[[str], str]) -> None:
        """Add what a lower-ranking source says; what is there already wins."""
        for name, value in values.items():
            if name not in self.model.model_fields:
                self.unknown(spell(name), value, origin(name), spell, name)
            elif name == "agents":
                self._take_agents(value, origin, spell)
            elif name not in self.values:
                self.values[name], self.origins[name], self._spelled[name] = value, origin(name), spell(name)

    def _take_agents(self, tables: Any, origin: Callable[[str], str], spell: Callable[[str], str]) -> None:
        if not isinstance(tables, Mapping):
            form = accepted_form(self.model.model_fields["agents"])
            self.problems.append(Problem("agents", f"{spell('agents')} ({origin('agents')}): expected {form}"))
            return
        mine: dict[str, Any] = self.values.setdefault("agents", {})
        for agent, table in tables.items():
            # The environment knows only A-Z, 0-9 and _: its STOCK_LEVEL is the file's stock-level.
            same = next((known for known in mine if _folded(known) == _folded(agent)), agent)
            if same != agent:
                mine[agent] = mine.pop(same)
                for key in [key for key in self.origins if key.startswith(f"agents.{same}.")]:
                    renamed = f"agents.{agent}.{key.rpartition('.')[2]}"
                    self.origins[renamed], self._spelled[renamed] = self.origins.pop(key), self._spelled.pop(key)
            if not isinstance(table, Mapping):
                self.problems.append(
                    Problem(f"agents.{agent}", f"agents.{agent} ({origin('agents')}): expected a table of options")
                )
                continue
            for option, value in table.items():
                key = f"agents.{agent}.{option}"
                if option not in mine.setdefault(agent, {}):
                    mine[agent][option] = value
                    in_environment = spell("agents").startswith(PREFIX)
                    self._spelled[key] = f"{PREFIX}{key.upper().replace('.', '__')}" if in_environment else key
                    self.origins[key] = f"environment {self._spelled[key]}" if in_environment else origin("agents")

    def take_fallback(self, name: str, variable: str, value: str) -> None:
        """Set a value nobody else has set from a variable that is not only ours."""
        self.values[name], self.origins[name], self._spelled[name] = value, f"environment {variable}", variable

    def unknown(self, key: str, value: Any, origin: str, spell: Callable[[str], str], name: str) -> None:
        """Note a name nobody knows, with the closest known one."""
        near = closest(name, self.model.model_fields)
        # The value of a misspelled secret is a secret.
        shown = (
            mask(value) if looks_secret(name) or (near and is_secret(self.model.model_fields[near])) else show(value)
        )
        hint = f"; did you mean {spell(near)}?" if near else ""
        self.problems.append(Problem(key, f"{key} = {shown} ({origin}): there is no such setting{hint}"))

    def check(self, table: type[BaseModel], combinations: Iterable[Combination[S]]) -> S:
        """Return the model. Raises `ConfigError` with everything that is wrong with any value or combination."""
        self.values["agents"] = {
            agent: self._agent(agent, options, table) for agent, options in self.values.get("agents", {}).items()
        }
        try:
            settings = self.model(**self.values)
            bad = frozenset[str]()
        except ValidationError as error:
            bad = frozenset(str(each["loc"][0]) for each in error.errors(include_url=False, include_input=False))
            for name in sorted(bad, key=list(self.model.model_fields).index):
                self.problems.append(self._bad_value(name, name, self.values[name], self.model.model_fields[name]))
            # The good values are checked against each other all the same, so that nobody is told half of it.
            settings = self.model(**{name: value for name, value in self.values.items() if name not in bad})
        for rule in combinations:
            if bad.isdisjoint(rule.names) and rule.is_wrong(settings):
                self.problems.append(self._bad_combination(rule, settings))
        if self.problems:
            raise ConfigError(self.problems)
        return settings

    def _agent(self, agent: str, options: dict[str, Any], table: type[BaseModel]) -> dict[str, Any]:
        if not _AGENT_NAME.fullmatch(agent):
            self.problems.append(Problem(f"agents.{agent}", f"agents.{agent!r}: not a name an agent can have"))
        wrong: set[str] = set()
        for option, raw in options.items():
            key = f"agents.{agent}.{option}"
            if option not in table.model_fields:
                wrong.add(option)
                near = closest(option, table.model_fields)
                hint = f"; did you mean {near}?" if near else f"; known are {', '.join(table.model_fields)}"
                value = mask(raw) if looks_secret(option) else show(raw)
                self.problems.append(
                    Problem(key, f"{self._said(key, value)}: there is no such option of an agent{hint}")
                )
        try:
            known = {option: value for option, value in options.items() if option not in wrong}
            return table.model_validate(known).model_dump(exclude_unset=True)
        except ValidationError as error:
            for option in dict.fromkeys(str(each["loc"][0]) for each in error.errors(include_url=False)):
                key = f"agents.{agent}.{option}"
                self.problems.append(self._bad_value(key, option, options[option], table.model_fields[option]))
            return {}

    def _said(self, key: str, value: str) -> str:
        return f"{self._spelled.get(key, key)} = {value} ({self.origins.get(key, 'default')})"

    def _bad_value(self, key: str, name: str, value: Any, field: FieldInfo) -> Problem:
        shown = mask(value) if is_secret(field) or looks_secret(name) else show(value)
        near = closest(str(value), choices(field.annotation)) if choices(field.annotation) else None
        hint = f"; did you mean {near}?" if near else ""
        return Problem(key, f"{self._said(key, shown)}: expected {accepted_form(field)}{hint}")

    def _bad_combination(self, rule: Combination[S], settings: S) -> Problem:
        parts = []
        for name in rule.names:
            value = plain(getattr(settings, name), is_secret(self.model.model_fields[name]))
            parts.append(f"{self._spelled.get(name, name)} = {show(value)} ({self.origins.get(name, 'default')})")
        return Problem(rule.names[0], f"{' with '.join(parts)}: {rule.says}")


def _folded(agent: str) -> str:
    return re.sub(r"[.-]", "_", agent).lower()
