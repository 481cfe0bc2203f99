"""A client for a running daemon: what the command line uses, and what any Python program may."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import httpx2

TIMEOUT = 30.0
"""Seconds for an ordinary answer: the daemon itself gives up on its store after less."""
SILENCE = 45.0
"""Seconds a stream may be silent: three heartbeats."""
RECONNECT_DELAY = 0.5
CONNECT_TIMEOUT = 3.0
SERVICE_UNAVAILABLE = 503


class DaemonError(Exception):
    """The daemon did not do what it was asked."""


class Unreachable(DaemonError):
    """Nobody answers at the daemon's address, or not like a daemon."""


class Problem(DaemonError):
    """The daemon refused; `code` is one of docs/errors.md."""

    def __init__(self, code: str, detail: str, status: int, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail
        self.status = status
        self.body = dict(body or {})
        """The whole problem, as it came."""


class DaemonClient:
    """Talks to the daemon at `url`. Every verb raises `Unreachable` or `Problem`. Environment proxies are not used."""

    def __init__(self, url: str, token: str | None = None, *, transport: httpx2.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
            trust_env=False,
            # Building a TLS context costs more than most verbs; plain HTTP needs none.
            verify=self.url.startswith("https:"),
            transport=transport,
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Messages

    def send(
        self,
        conversation_id: str,
        text: str,
        *,
        message_id: str | None = None,
        user_id: str | None = None,
        plan: Mapping[str, Any] | None = None,
        wait: float | None = None,
    ) -> dict[str, Any]:
        """Post a message; return what it was answered: the reply (`type` is `reply.sent`) or that it was accepted."""
        fields = {"text": text, "message_id": message_id, "user_id": user_id, "plan": plan}
        said = {name: value for name, value in fields.items() if value is not None}
        path = f"{_conversation(conversation_id)}/messages"
        if wait is None:
            return self._post(path, said)
        return self._post(path, said, params={"wait": _number(wait)}, timeout=wait + TIMEOUT)

    def control(
        self, verb: str, conversation_id: str, *, by: str | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        """`cancel`, `pause` or `resume` a conversation."""
        return self._post(f"{_conversation(conversation_id)}/{verb}", _who(by, reason))

    # Looking

    def conversations(self, *, phase: str | None = None, limit: int = 50) -> Iterator[dict[str, Any]]:
        """Yield at most `limit` conversations, newest update first, over as many pages as it takes."""
        params = {} if phase is None else {"phase": phase}
        yield from self._pages("/api/v1/conversations", "conversations", "cursor", limit, params)

    def conversation(self, conversation_id: str) -> dict[str, Any]:
        """Return one conversation with its newest request."""
        return self._get(_conversation(conversation_id))

    def messages(self, conversation_id: str, *, limit: int = 1_000) -> Iterator[dict[str, Any]]:
        """Yield what was said, oldest first."""
        yield from self._pages(f"{_conversation(conversation_id)}/messages", "messages", "after", limit)

    def plan(self, conversation_id: str) -> dict[str, Any]:
        """Return the newest request's plan."""
        return self._get(f"{_conversation(conversation_id)}/plan")

    def why(self, conversation_id: str, request_id: str | None = None) -> dict[str, Any]:
        """Return the tree of causes of one request, the newest when None."""
        params = {} if request_id is None else {"request": request_id}
        return self._get(f"{_conversation(conversation_id)}/why", params)

    def why_all(self, conversation_id: str) -> Iterator[dict[str, Any]]:
        """Yield the trees of causes of the whole conversation, a page at a time."""
        after: int | None = 0
        while after is not None:
            page = self._get(f"{_conversation(conversation_id)}/why", {"after": after})
            yield page
            after = page["next"]

    def events(self, conversation_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield journaled events after `after`, oldest first; all there are unless limited.

        None when the journal does not go so far, which is no error here: compare with `conversation()["seq"]`.
        """
        path = f"{_conversation(conversation_id)}/events"
        yield from self._pages(path, "events", "after", limit, {"after": after} if after else {})

    def follow(self, conversation_id: str, after: int = 0, *, patience: float = 30.0) -> Iterator[dict[str, Any]]:
        """Yield events after `after` as they come, for ever; after a lost connection, from where it was.

        Raises at once what the first connection meets, and whenever the daemon refuses to go on: with the code
        `ahead_of_journal` when its store has become older than what it gave before. Later `Unreachable`, or `Problem`
        of a daemon that takes nothing now, only when that lasts for `patience` seconds.
        """
        path = f"{_conversation(conversation_id)}/events"
        lost_at: float | None = None
        connected = False
        while True:
            error: DaemonError = Unreachable(f"the daemon at {self.url} ends every stream")
            try:
                for event in self._stream(path, after):
                    connected, lost_at = True, None
                    if event is not None:
                        after = event.get("seq", after)
                        yield event
            except (Unreachable, Problem) as met:
                if not connected or (isinstance(met, Problem) and met.status != SERVICE_UNAVAILABLE):
                    raise
                error = met
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > patience:
                raise error
            time.sleep(RECONNECT_DELAY)

    # Operators

    def actors(self) -> Iterator[dict[str, Any]]:
        """Yield every live actor, by path."""
        yield from self._pages("/api/v1/actors", "actors", "after", None)

    def restart(self, path: str, *, by: str | None = None, reason: str | None = None) -> dict[str, Any]:
        """Restart one actor."""
        return self._post("/api/v1/actors/restart", {"path": path, **_who(by, reason)})

    def dead_letters(self, *, limit: int = 100) -> Iterator[dict[str, Any]]:
        """Yield dead letters, oldest first."""
        yield from self._pages("/api/v1/deadletters", "dead_letters", "after", limit)

    def replay(self, number: int, *, by: str | None = None, reason: str | None = None) -> dict[str, Any]:
        """Send what a dead letter holds again; when it is accepted the letter is gone."""
        return self._post(f"/api/v1/deadletters/{number}/replay", _who(by, reason))

    def drop(self, number: int, *, by: str | None = None, reason: str | None = None) -> dict[str, Any]:
        """Throw a dead letter away."""
        return self._post(f"/api/v1/deadletters/{number}/drop", _who(by, reason))

    def status(self) -> dict[str, Any]:
        """Return one screen of figures."""
        return self._get("/api/v1/status")

    def readiness(self) -> dict[str, Any]:
        """Return `status` and `checks`, whether ready or not."""
        with _reaching(self.url):
            response = self._http.get("/readyz")
        return _object(response)

    def is_alive(self) -> bool:
        """Return whether a daemon answers, raising `Problem` when it will not talk to us."""
        try:
            return self._get("/livez").get("status") == "alive"
        except Unreachable:
            return False

    # Requests

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        with _reaching(self.url):
            response = self._http.get(path, params=params)
        return _checked(response)

    def _post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        params: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
    ) -> dict[str, Any]:
        with _reaching(self.url):
            limits = httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT)
            response = self._http.post(path, json=body, params=params, timeout=limits)
        return _checked(response)

    def _pages(
        self, path: str, name: str, cursor: str, limit: int | None, params: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        asked = dict(params or {})
        left = limit
        while left is None or left > 0:
            size = 1_000 if left is None else min(left, 1_000)
            page = self._get(path, {**asked, "limit": size})
            yield from page[name]
            if page["next"] is None:
                return
            asked[cursor] = page["next"]
            left = None if left is None else left - len(page[name])

    def _stream(self, path: str, after: int) -> Iterator[dict[str, Any] | None]:
        """Yield events, and None for every sign of life."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        limits = httpx2.Timeout(SILENCE, connect=CONNECT_TIMEOUT)
        with _reaching(self.url), self._http.stream("GET", path, headers=headers, timeout=limits) as response:
            if response.status_code != 200:
                response.read()
                _checked(response)
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])
                elif line.startswith((":", "retry:")):
                    yield None


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx2.TransportError, httpx2.InvalidURL, httpx2.DecodingError) as error:
        raise Unreachable(f"no daemon answers at {url}: {error or type(error).__name__}") from error
    except UnicodeEncodeError:
        # A command line's bytes that are no UTF-8 come as lone surrogates, which nothing can be sent with.
        raise Problem("invalid_field", "a text is not valid Unicode: it holds bytes that are no UTF-8", 400) from None


def _checked(response: httpx2.Response) -> dict[str, Any]:
    body = _object(response)
    if response.status_code >= 400:
        code, detail = body.get("code"), body.get("detail")
        if not isinstance(code, str):
            raise Unreachable(f"{response.url} answers {response.status_code}, but not like a daemon")
        raise Problem(code, str(detail), response.status_code, body)
    return body


def _object(response: httpx2.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Unreachable(f"{response.url} does not answer like a daemon")
    return body


def _conversation(conversation_id: str) -> str:
    # Whatever is given stays one segment of the path; the daemon says whether it is an id.
    quoted = "".join(c if c.isascii() and (c.isalnum() or c in "._:-") else _percent(c) for c in conversation_id)
    if quoted in ("", ".", ".."):
        quoted = quoted.replace(".", "%2E") or "%00"
    return f"/api/v1/conversations/{quoted}"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))


def _number(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _who(by: str | None, reason: str | None) -> dict[str, str]:
    return {name: said for name, said in (("by", by), ("reason", reason)) if said}
