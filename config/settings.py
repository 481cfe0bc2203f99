"""Every setting, one typed model: name, unit, default, meaning.

A setting `max_retries` is `ORCHESTRATOR_MAX_RETRIES` in the environment and `max_retries` in `orchestrator.toml`.
docs/configuration.md is written from this model by `python -m config --markdown`; a test holds the page equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.agent_table import AgentTable
from config.durations import DURATION_FORM, parse_duration
from config.fields import (
    FUNCTION,
    MODULE,
    PREFIX,
    About,
    Accepts,
    Duration,
    Names,
    Number,
    Retries,
    Size,
    Timeout,
    Whole,
    address,
    off,
    pattern,
    utf8_path,
)


class Settings(BaseSettings):
    """All settings, checked. `Settings(...)` takes arguments and defaults; `load_settings` reads all sources."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        enable_decoding=False,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=False,
        hide_input_in_errors=True,
    )

    # Where

    config: Annotated[Path | None, About("path")] = None
    """The TOML file; a named one must exist, `./orchestrator.toml` is read when it is there."""
    data_dir: Annotated[Path, AfterValidator(utf8_path), About("path"), Accepts("a path, in UTF-8")] = Path("var")
    """Directory of the SQLite file `orchestrator.db`, relative to the working directory."""
    url: Annotated[str | None, About("URL"), pattern(r"https?://\S+"), Accepts("http://HOST:PORT")] = None
    """The daemon that verbs talk to; the address of `http_bind` when absent."""

    # Work

    max_agent_calls: Annotated[Whole, About("nodes", live=True), Field(ge=1, le=10_000)] = 5
    """Agent calls (nodes) per request; a plan with more is refused with a clear reason."""
    agent_timeout: Annotated[Timeout, About("s", live=True)] = 60.0
    """For one attempt of an agent."""
    request_timeout: Annotated[
        float | None,
        BeforeValidator(off(parse_duration)),
        Field(gt=0),
        About("s", live=True),
        Accepts(f"{DURATION_FORM}; or off"),
    ] = None
    """For a request as a whole, from when its turn comes; then it is answered with what there is. Off when absent."""
    parallel_threshold: Annotated[Whole, About("nodes", live=True), Field(ge=1)] = 2
    """Fewest independent nodes that count as parallel execution."""
    max_replans: Annotated[Whole, About("plans", live=True), Field(ge=0, le=100)] = 2
    """New plans a request may ask for after failures."""
    busy_policy: Annotated[Literal["enqueue", "reject", "interrupt", "rollback"], About(live=True)] = "enqueue"
    """What a message means that comes while a request of its conversation runs."""
    agents_from: Annotated[
        Names, About("modules", live=True), pattern(MODULE), Accepts("module names, comma-separated")
    ] = ()
    """Modules in which agents are found."""
    planner: Annotated[
        str, About(live=True), pattern(rf"contracts|{FUNCTION}"), Accepts("contracts, or module:function")
    ] = "contracts"
    """Who draws up plans: the contracts of the agents, or a function taking (text, context)."""
    synthesizer: Annotated[
        str, About(live=True), pattern(rf"template|{FUNCTION}"), Accepts("template, or module:function")
    ] = "template"
    """Who puts results together into a reply."""

    # Retries

    max_retries: Annotated[Retries, About("retries", live=True)] = 3
    """Retries after the first attempt."""
    base_retry_delay: Annotated[Duration, About("s", live=True)] = 1.0
    """Backoff minimum."""
    max_retry_delay: Annotated[Duration, About("s", live=True)] = 30.0
    """Backoff maximum."""
    retry_base: Annotated[Number, About("factor", live=True), Field(ge=1, le=1_000)] = 2.0
    """Backoff factor: how much longer each delay is than the one before."""
    random_factor: Annotated[Number, About("share", live=True), Field(ge=0, le=1)] = 0.2
    """Share of a delay that jitter may add, so that many failures do not come back in step."""
    reset_backoff_after: Annotated[
        float | None, BeforeValidator(off(parse_duration)), About("s", live=True), Accepts(DURATION_FORM)
    ] = None
    """Quiet time after which a restart count begins anew; the mean of backoff minimum and maximum when absent."""

    breaker_failures: Annotated[Whole, About("failures", live=True), Field(ge=0, le=10_000)] = 10
    """Transient failures of an agent in a row, over all conversations, after which it is left alone; 0: never."""
    breaker_window: Annotated[Duration, About("s", live=True), Field(gt=0)] = 60.0
    """Time within which these failures must lie."""
    breaker_reset: Annotated[Duration, About("s", live=True), Field(gt=0)] = 30.0
    """How long it is left alone; then one call at a time tries, and each failure doubles this."""
    breaker_max_reset: Annotated[Duration, About("s", live=True), Field(gt=0)] = 300.0
    """The longest that doubling comes to."""

    # Store

    state_storage: Annotated[Literal["sqlite", "postgres", "redis", "memory"], About()] = "sqlite"
    """Where conversations are kept; `memory` forgets everything when the daemon ends."""
    postgres_dsn: Annotated[SecretStr | None, About("DSN", fallback="DATABASE_URL")] = None
    """Connection string for `state_storage = "postgres"`; else `DATABASE_URL`."""
    persist_conversations: Annotated[
        bool,
        About(
            cost_when=False, cost="Conversations live in memory only: the daemon's end loses them, unanswered ones too."
        ),
    ] = True
    """Whether conversations are stored."""
    persist_agent_state: Annotated[
        bool,
        About(
            cost_when=False,
            cost="Agent results are not stored: after a crash, finished nodes of open requests run again.",
        ),
    ] = True
    """Whether agent results are stored."""
    snapshot_every: Annotated[Whole, About("events", live=True), Field(ge=1)] = 100
    """Events after which a snapshot is due within a turn; each turn's end and each passivation has one anyway."""
    accept_restored: Annotated[bool, About()] = False
    """Whether to go on with a store that is older than what `data_dir` has seen of it: a restored backup."""
    lease_ttl: Annotated[Duration, About("s"), Field(ge=0.1)] = 10.0
    """How long a silent owner keeps a Postgres or Redis store."""
    inbox_retention: Annotated[Duration, About("s", live=True), Field(gt=0)] = 86_400.0
    """How long message ids are remembered for telling repetitions."""
    log_retention: Annotated[Duration, About("s", live=True), Field(gt=0)] = 2_592_000.0
    """How long rows of the operation, error and performance tables are kept."""
    journal_retention: Annotated[
        float | None, BeforeValidator(off(parse_duration)), About("s", live=True), Accepts(f"{DURATION_FORM}; or off")
    ] = None
    """How long the journal of a finished conversation is kept after its last event; for ever when absent."""
    quarantine_after: Annotated[Whole, About("recoveries"), Field(ge=1)] = 5
    """Recoveries without progress, ended by the daemon's death, after which a conversation is quarantined."""

    # Context

    max_context_tokens: Annotated[Whole, About("tokens", live=True), Field(ge=0)] = 1_000
    """Context handed to planner, agents and synthesizer."""
    recent_messages_limit: Annotated[Whole, About("messages", live=True), Field(ge=0, le=10_000)] = 10
    """Newest messages always included."""
    compression_threshold: Annotated[Whole, About("characters", live=True), Field(ge=0)] = 50_000
    """Characters of history above which older parts are condensed."""

    # Doors

    http_bind: Annotated[str, BeforeValidator(address), About("address"), Accepts("HOST:PORT, [IPV6]:PORT, or off")] = (
        "127.0.0.1:8642"
    )
    """Where the HTTP door listens; beyond loopback only with `api_token`."""
    allowed_hosts: Annotated[Names, About("hosts", live=True), Accepts("host names, comma-separated")] = ()
    """Host names requests may be addressed to besides the bound address and, on loopback, `localhost`."""
    api_token: Annotated[SecretStr | None, About(live=True), Field(min_length=1)] = None
    """Bearer token that every request must carry; required to bind beyond loopback."""
    read_token: Annotated[SecretStr | None, About(live=True), Field(min_length=1)] = None
    """A second bearer token, for those who may look and change nothing."""
    redis_url: Annotated[
        SecretStr | None,
        BeforeValidator(off()),
        About("URL", fallback="REDIS_URL"),
        Accepts("redis://, rediss:// or unix:// URL, or off"),
    ] = None
    """Redis of the Redis door and of the Redis store; else `REDIS_URL`; absent or `off`: no Redis door."""
    redis_prefix: Annotated[str, About(), pattern(r"[A-Za-z0-9._-]{1,64}"), Accepts("1-64 of A-Z a-z 0-9 . _ -")] = (
        "orch"
    )
    """First part of every Redis key and channel."""
    redis_log_length: Annotated[Whole, About("events"), Field(ge=1)] = 10_000
    """Events that each conversation's log on Redis keeps, about; the journal keeps them all."""
    redis_log_keep: Annotated[Duration, About("s"), Field(gt=0)] = 604_800.0
    """How long a conversation's log stays on Redis after its newest event."""
    max_message_bytes: Annotated[Size, About("bytes", live=True), Field(ge=1)] = 1 << 20
    """Largest message taken."""
    max_result_bytes: Annotated[Size, About("bytes", live=True), Field(ge=1)] = 4 << 20
    """Largest result of one agent, plan of a planner, text of a synthesizer; more is the permanent error
    `result_too_large`."""

    # Running

    drain_timeout: Annotated[Duration, About("s", live=True)] = 30.0
    """How long a stopping daemon waits for running work before it saves the rest."""
    passivate_after: Annotated[Duration, About("s", live=True), Field(gt=0)] = 300.0
    """Idle time after which a conversation leaves memory."""
    mailbox_limit: Annotated[Whole, About("messages"), Field(ge=1)] = 1_000
    """Messages one conversation's mailbox holds; more are refused at the door as `mailbox_full`."""
    queue_limit: Annotated[Whole, About("messages", live=True), Field(ge=1)] = 1_000
    """Accepted messages of one conversation that may wait for their turn; more are refused as `mailbox_full`."""
    max_unfinished: Annotated[Whole, About("requests", live=True), Field(ge=1)] = 10_000
    """Accepted requests without a reply, over all conversations; more are refused at the door as `mailbox_full`."""
    abandoned_limit: Annotated[Whole, About("calls", live=True), Field(ge=1)] = 8
    """Calls of one agent given up that still run, as thread or task; with more it is refused until some of them end."""
    threads: Annotated[Whole, About("threads"), Field(ge=1, le=10_000)] = 32
    """Threads for blocking agents; async agents are bounded only by their `max_concurrency`."""
    dispatcher_threads: Annotated[Whole, About("threads"), Field(ge=1, le=256)] = 2
    """Threads that run actors; nothing blocks them."""

    # Logs

    structured_logging: Annotated[bool, About()] = True
    """JSON lines; false: readable text."""
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
        About(live=True),
    ] = "INFO"
    """Lowest level written; message texts appear at DEBUG only."""
    trace_all: Annotated[bool, About(live=True)] = True
    """Log every operation, not only the notable ones."""

    tracing: Annotated[bool, About()] = False
    """Send OpenTelemetry spans of turns, plans and agents' calls; needs the extra `otel`. Where to is said by
    `OTEL_EXPORTER_OTLP_ENDPOINT` and OpenTelemetry's other variables."""

    # Agents

    agents: Annotated[dict[str, dict[str, Any]], About("tables", live=True), Accepts("[agents.NAME] tables")] = {}
    """Options by agent name; what is set here wins over the decorator's. In the environment:
    `ORCHESTRATOR_AGENTS__STOCK__TIMEOUT=5`."""

    @field_validator("agents")
    @classmethod
    def _options(cls, tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: AgentTable.model_validate(table).model_dump(exclude_unset=True) for name, table in tables.items()}

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each value came from, by name; a name that is not there has its default."""
        return self._origins

    @property
    def sqlite_path(self) -> Path:
        """The SQLite store's file."""
        return self.data_dir / "orchestrator.db"

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port to bind; None when the HTTP door is off."""
        if self.http_bind == "off":
            return None
        host, _, port = self.http_bind.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def daemon_url(self) -> str | None:
        """Where verbs find the daemon: `url`, else the bound address seen from this machine; None when HTTP is off."""
        if self.url or self.http_address is None:
            return self.url.rstrip("/") if self.url else None
        host, port = self.http_address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # compared, not bound
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keep `Settings(...)` free of the environment: `load_settings` gathers the sources and knows who said what."""
        return (init_settings,)


SECTIONS: Final = {
    "config": "Where",
    "max_agent_calls": "Work",
    "max_retries": "Retries",
    "state_storage": "Store",
    "max_context_tokens": "Context",
    "http_bind": "Doors",
    "drain_timeout": "Running",
    "structured_logging": "Logs",
    "agents": "Agents",
}
"""Headings of the docs page, by the first setting under them."""
