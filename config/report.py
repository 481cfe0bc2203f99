"""How settings are shown: rows for the `config` verb, and the page docs/configuration.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from config.durations import format_duration
from config.fields import PREFIX, about, accepted_form, is_secret, plain


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as it is in effect; `value` and `default` are plain JSON."""

    name: str
    env: str
    value: Any
    """Secrets masked."""
    unit: str
    default: Any
    origin: str
    """`flag`, `environment NAME`, `file PATH` or `default`."""
    meaning: str
    cost: str = ""
    """What the present value costs, when it costs something."""


def rows(settings: BaseSettings, origins: Mapping[str, str]) -> list[SettingRow]:
    """Return one row per setting in the model's order; each option of an agent has its own."""
    found: list[SettingRow] = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name == "agents":
            found.extend(_agent_rows(value, origins))
            continue
        facts = about(field)
        found.append(
            SettingRow(
                name,
                _env(name),
                plain(value, is_secret(field)),
                facts.unit,
                plain(field.default, is_secret(field)),
                origins.get(name, "default"),
                _meaning(field),
                facts.cost if facts.cost and value == facts.cost_when else "",
            )
        )
    return found


def _agent_rows(agents: Mapping[str, Mapping[str, Any]], origins: Mapping[str, str]) -> list[SettingRow]:
    return [
        SettingRow(
            f"agents.{agent}.{option}",
            _env(f"agents__{agent}__{option}"),
            plain(value, secret=False),
            "",
            None,
            origins.get(f"agents.{agent}.{option}", "default"),
            f"Option `{option}` of the agent `{agent}`.",
        )
        for agent, options in agents.items()
        for option, value in options.items()
    ]


def live_names(model: type[BaseSettings]) -> frozenset[str]:
    """Return the settings that a reload may change in a running daemon."""
    return frozenset(name for name, field in model.model_fields.items() if about(field).live)


_HEAD: Final = """# Configuration

Written from the model in `config/settings.py` by `python -m config --markdown`; a test fails when this page is stale.

A value comes from the first of these that has one: a flag of the command line, the environment, the TOML file, the
default. The file is the one named by `--config`, else by `ORCHESTRATOR_CONFIG`, else `./orchestrator.toml` if there is
one; a file that is named must exist. A setting `max_retries` is `ORCHESTRATOR_MAX_RETRIES` in the environment and
`max_retries` in the file. A variable that is set but empty counts as not set.

Unknown names (of the environment too: every `ORCHESTRATOR_*`), bad values and combinations that make no sense are
errors, all said at once, with exit code 78. Variables that Kubernetes sets beside a Service named `orchestrator`
(`ORCHESTRATOR_SERVICE_HOST`, `ORCHESTRATOR_PORT_...`) are passed over.

Durations are seconds as bare numbers, or numbers with a unit: `500ms`, `30s`, `5m`, `2h`, `1d`. Sizes are bytes, or
`64KiB`, `1MiB`, `2GiB`. Lists are comma-separated in the environment. `DATABASE_URL` and `REDIS_URL` are read last,
when nothing else names that connection.

A reload (SIGHUP) checks the whole configuration first and keeps the old one when anything is wrong: also when
the file is gone, or when `api_token` was set and is not any more. Settings marked *live* change in the running daemon;
the others need a restart.

`orch config` prints the settings in effect and where each came from. Secrets are never printed: of a connection URL
its host and path are shown, of other secrets nothing.
"""

_AGENTS: Final = """
An agent's options stand in a table of the file, `[agents.NAME]`, and win over those of its decorator. The environment
reaches them too, and wins over the file: `ORCHESTRATOR_AGENTS__STOCK__TIMEOUT=5`. Upper and lower case do not matter
there, and `_` stands for `-` and `.` as well.

| option | accepts | meaning |
|---|---|---|
"""


def markdown(model: type[BaseSettings], table: type[BaseModel], sections: Mapping[str, str]) -> str:
    """Return the page; `sections` maps the first setting under a heading to that heading."""
    parts = [_HEAD]
    for name, field in model.model_fields.items():
        if name in sections:
            parts.append(f"\n## {sections[name]}\n")
            parts.append(
                _AGENTS
                if name == "agents"
                else "\n| setting | default | unit | accepts | meaning |\n|---|---|---|---|---|\n"
            )
        if name != "agents":
            parts.append(_line(name, field))
    parts.extend(
        f"| `{option}` | {_cell(accepted_form(field))} | {_cell(_meaning(field))} |\n"
        for option, field in table.model_fields.items()
    )
    return "".join(parts)


def _line(name: str, field: FieldInfo) -> str:
    facts = about(field)
    meaning = f"{_meaning(field)}{' *Live.*' if facts.live else ''}"
    if facts.cost:
        meaning += f" `{_written(facts.cost_when, '')}` costs: {facts.cost}"
    default = _written(field.default, facts.unit)
    return (
        f"| `{name}` | {f'`{default}`' if default else ''} | {facts.unit} | {_cell(accepted_form(field))} "
        f"| {_cell(meaning)} |\n"
    )


def _written(value: Any, unit: str) -> str:
    if unit == "s" and isinstance(value, float):
        return format_duration(value)
    if value is None or value == ():
        return ""
    return str(value).lower() if isinstance(value, bool) else str(plain(value, secret=False))


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _env(name: str) -> str:
    return PREFIX + name.upper().replace("-", "_").replace(".", "_")
