"""Who may send a request: the Host, Origin, fetch metadata and bearer token rules, as pure functions.

They hold for every route and method. The Host list stops DNS rebinding; Origin and Sec-Fetch-Site stop web pages of
other sites, which a browser on this machine would carry past the loopback address.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hmac import compare_digest
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from gateway.ports import HttpSettings, Secret
from gateway.problems import Problem

Headers = dict[bytes, bytes]
Role = Literal["operate", "read"]
READING = frozenset({"GET", "HEAD"})
"""Methods by which nothing is changed."""

OPEN_ROUTES = frozenset({"/livez", "/readyz"})
"""Probes carry no secrets, so these need no token; without one, readyz says which checks fail but not why."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rules in effect; replaced as a whole when the configuration is reloaded."""

    hosts: frozenset[str]
    any_address: bool
    """True when bound beyond loopback: then any literal address is one of ours as far as we can tell."""
    token: bytes | None
    """Lets its bearer do everything; None: so may anybody who comes this far."""
    read_token: bytes | None = None
    """Lets its bearer look, and change nothing."""

    @classmethod
    def from_settings(cls, settings: HttpSettings) -> Access:
        """Return the rules for these settings."""
        host = settings.http_address[0] if settings.http_address else "127.0.0.1"
        named = {name.strip("[]").rstrip(".").lower() for name in settings.allowed_hosts}
        return cls(
            frozenset({host.lower(), "localhost", *named}),
            not is_loopback(host),
            _bytes(settings.api_token),
            _bytes(settings.read_token),
        )

    def check(self, path: str, method: str, headers: Headers) -> None:
        """Raise `Problem` unless the request may be served."""
        self.check_origin(headers)
        if path in OPEN_ROUTES:
            return
        role = self.role(headers)
        if role is None:
            raise Problem(
                "unauthorized",
                "send the header `Authorization: Bearer TOKEN` with the daemon's api_token, or its read_token to look",
                headers={"WWW-Authenticate": 'Bearer realm="orchestrator"'},
            )
        # By method, not by a list of routes: a route that is new changes nothing unless it says GET.
        if role == "read" and method not in READING:
            raise Problem("forbidden", "the read_token may only look; this needs the role operate: the api_token")

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

    def role(self, headers: Headers) -> Role | None:
        """Return what the sender may do; `operate` when no token is set."""
        if self.token is None:
            return "operate"
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        given = given.strip()
        # Both are compared, whatever the first one says: the time it takes tells nothing.
        operates = compare_digest(given, self.token)
        reads = self.read_token is not None and compare_digest(given, self.read_token)
        return "operate" if operates else "read" if reads else None

    def _is_ours(self, host: str) -> bool:
        name = _host_name(host) if len(host) <= _LONGEST_HOST else None
        if name is None:
            return False
        if name in self.hosts:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback


_LONGEST_HOST = 300
"""More than any name with its port has; longer ones are not remembered."""


def _bytes(secret: Secret | None) -> bytes | None:
    return secret.get_secret_value().encode() if secret else None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`; a name other than `localhost` is taken to be reachable."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@lru_cache(maxsize=256)  # clients name the same few, request after request
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
