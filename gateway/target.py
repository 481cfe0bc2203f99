"""A request's target that is a whole URL, as proxies write it, taken as the path and host that it means."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from starlette.types import Scope

_SCHEMES = (b"http://", b"https://")


def origin_form(scope: Scope) -> Scope:
    """Return the scope as if its target had been a path.

    What the URL names as host stands for the Host header, whatever that says (RFC 9112, section 3.2.2). A target that
    is neither path nor URL stays as it is, and is found nowhere.
    """
    raw: bytes = scope["raw_path"]
    if not raw.lower().startswith(_SCHEMES):
        return scope
    try:
        parts = urlsplit(raw.decode("latin-1"))
    except ValueError:  # brackets that hold no address
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    headers.append((b"host", parts.netloc.encode("latin-1")))
    path = parts.path or "/"
    return {**scope, "path": unquote(path), "raw_path": path.encode("latin-1"), "headers": headers}
