"""Every setting of the daemon: where it comes from, whether it makes sense, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config import fields, report, sources
from config.agent_table import AgentTable
from config.combinations import COMBINATIONS, cautions, is_loopback
from config.report import SettingRow
from config.settings import SECTIONS, Settings
from config.sources import ConfigError, Problem

__all__ = [
    "AgentTable",
    "ConfigError",
    "Problem",
    "SettingRow",
    "Settings",
    "cautions",
    "diff",
    "explain",
    "is_loopback",
    "live_names",
    "load_settings",
    "markdown",
    "secret_values",
]


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    client: bool = False,
) -> Settings:
    """Gather the settings: flag, environment, TOML file, default. `flags` maps names to values, None meaning not given.

    Who is only a `client` of a daemon may have part of its settings, such as the read_token alone.
    Raises `ConfigError` with every problem at once. Reading is all it does: safe to call again for a reload.
    """
    values, origins = sources.load(
        Settings,
        AgentTable,
        () if client else COMBINATIONS,
        flags=flags or {},
        environ=environ,
        cwd=cwd or Path.cwd(),
    )
    values._origins.update(origins)  # noqa: SLF001  # set here once, read through `origins`
    return values


def explain(settings: Settings) -> list[SettingRow]:
    """Return one row per setting, in the model's order, secrets masked: what the `config` verb prints."""
    return report.rows(settings, settings.origins)


def diff(old: Settings, new: Settings) -> list[str]:
    """Return the names of the settings that differ; `live_names` says which may change at run time."""
    return [name for name in type(new).model_fields if getattr(old, name) != getattr(new, name)]


def live_names() -> frozenset[str]:
    """Return the settings that a reload may change; the others need a restart."""
    return report.live_names(Settings)


def secret_values(settings: Settings) -> tuple[str, ...]:
    """Return every secret as text, with the passwords inside URLs on their own: what logs must never show."""
    return fields.secret_values(settings)


def markdown() -> str:
    """Return docs/configuration.md."""
    return report.markdown(Settings, AgentTable, SECTIONS)
