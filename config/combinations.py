"""Settings that make no sense together, and settings that are allowed but probably not meant."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from pydantic import SecretStr

from config.fields import about
from config.settings import Settings
from config.sources import Combination


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than `localhost` is taken to be reachable."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _beyond_loopback(s: Settings) -> bool:
    return s.http_address is not None and not is_loopback(s.http_address[0])


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


COMBINATIONS: Final[tuple[Combination[Settings], ...]] = (
    Combination(
        ("http_bind", "api_token"),
        lambda s: _beyond_loopback(s) and not s.api_token,
        "binding beyond loopback needs an api_token; set ORCHESTRATOR_API_TOKEN or bind 127.0.0.1",
    ),
    Combination(
        ("read_token", "api_token"),
        lambda s: bool(s.read_token) and (not s.api_token or _secret(s.read_token) == _secret(s.api_token)),
        "read_token only looks, beside an api_token that is another one: set ORCHESTRATOR_API_TOKEN too",
    ),
    Combination(
        ("max_retry_delay", "base_retry_delay"),
        lambda s: s.max_retry_delay < s.base_retry_delay,
        "max_retry_delay must not be below base_retry_delay",
    ),
    Combination(
        ("state_storage", "postgres_dsn"),
        lambda s: s.state_storage == "postgres" and not _secret(s.postgres_dsn),
        "state_storage postgres needs postgres_dsn (or DATABASE_URL)",
    ),
    Combination(
        ("postgres_dsn", "state_storage"),
        lambda s: (
            s.state_storage == "postgres"
            and "://" in _secret(s.postgres_dsn)
            and not _secret(s.postgres_dsn).startswith(("postgres://", "postgresql://"))
        ),
        "a URL must begin with postgresql://",
    ),
    Combination(
        ("state_storage", "redis_url"),
        lambda s: s.state_storage == "redis" and not s.redis_url,
        "state_storage redis needs redis_url (or REDIS_URL)",
    ),
    Combination(
        ("redis_url",),
        lambda s: bool(s.redis_url) and not _secret(s.redis_url).startswith(("redis://", "rediss://", "unix://")),
        "must be a redis://, rediss:// or unix:// URL, or off",
    ),
)


def cautions(settings: Settings) -> list[str]:
    """Return sentences about what is allowed but probably not meant; `check` and the start of `serve` say them."""
    said = [
        f"{name} = {str(getattr(settings, name)).lower()}: {facts.cost}"
        for name, field in Settings.model_fields.items()
        if (facts := about(field)).cost and getattr(settings, name) == facts.cost_when
    ]
    if settings.http_address is None and not settings.redis_url:
        said.append("http_bind is off and there is no redis_url: nobody can talk to this daemon from outside")
    if settings.state_storage == "memory":
        said.append("state_storage is memory: everything is forgotten when the daemon ends")
    for name in ("api_token", "read_token"):
        token = _secret(getattr(settings, name))
        if token and len(token) < 32:
            said.append(f"{name} is short: at least 32 random characters make guessing hopeless")
    return said
