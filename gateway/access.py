"""Who may send a request: the Host, Origin, fetch metadata and bearer token rules, as pure functions.

They hold for every route and method. The Host list stops DNS rebinding; Origin and Sec-Fetch-Site stop web pages of
other sites, which a browser on this machine would carry past the loopback address.
"""

from __future__ import annotations

from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.ports import HttpSettings
from gateway.problems import Problem

Headers = dict[bytes, bytes]

OPEN_ROUTES = frozenset({"/livez", "/readyz"})
"""Probes carry no secrets, so these need no token; without one, readyz says which checks fail but not why."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rules in effect; replaced as a whole when the configuration is reloaded."""

    hosts: frozenset[str]
    any_address: bool
    """True when bound beyond loopback: then any literal address is one of ours as far as we can tell."""
    token: bytes | None

    @classmethod
    def from_settings(cls, settings: HttpSettings) -> Access:
        """Return the rules for these settings."""
        host = settings.http_address[0] if settings.http_address else "127.0.0.1"
        named = {name.strip("[]").rstrip(".").lower() for name in settings.allowed_hosts}
        token = settings.api_token.get_secret_value().encode() if settings.api_token else None
        return cls(frozenset({host.lower(), "localhost", *named}), not is_loopback(host), token)

    def check(self, path: str, headers: Headers) -> None:
        """Raise `Problem` unless the request may be served."""
        self.check_origin(headers)
        if self.token is not None and path not in OPEN_ROUTES and not self.knows(headers):
            raise Problem(
                "unauthorized",
                "send the header `Authorization: Bearer TOKEN` with the daemon's api_token",
                headers={"WWW-Authenticate": 'Bearer realm="orchestrator"'},
            )

    def check_origin(self, headers: Headers) -> None:
        """Raise `Problem` for an unknown Host and for requests of other sites' pages."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_ours(host):
            raise Problem("forbidden", f"the Host {host[:100]!r} is not ours; allowed_hosts would make it so")
        site = headers.get(b"sec-fetch-site")
        if site is not None and site not in (b"same-origin", b"none"):
            raise Problem("forbidden", "web pages of other sites may not talk to this daemon")
        origin = headers.get(b"origin")
        if origin is not None and not _same_origin(origin.decode("latin-1"), host):
            raise Problem("forbidden", f"the Origin {origin.decode('latin-1')[:100]!r} is not this daemon's")

    def knows(self, headers: Headers) -> bool:
        """Return whether the request carries the token; True when none is set."""
        if self.token is None:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and compare_digest(given.strip(), self.token)

    def _is_ours(self, host: str) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        if name in self.hosts:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`; a name other than `localhost` is taken to be reachable."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises when it is no port
    except ValueError:
        return None
    if not parts.hostname or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname.rstrip(".")


def _same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower() and not parts.path
