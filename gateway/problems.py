"""Every error a client can be answered: code -> HTTP status and meaning; docs/errors.md is written from this table.

`python -m gateway.problems > docs/errors.md`; a test holds the page equal.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from messages.inbound import Refused


@dataclass(frozen=True, slots=True)
class Code:
    """One stable code."""

    status: int
    title: str
    meaning: str
    retry_after: float | None = None
    """Seconds said in `Retry-After` when nobody knows better; None for errors that another try does not help."""


CODES: Final[dict[str, Code]] = {
    "invalid_body": Code(400, "The body is not a message", "Not one JSON object (or msgpack map), or not plain data."),
    "invalid_field": Code(
        400, "A field is wrong", "A field of the body or a parameter of the address; `field` says which."
    ),
    "invalid_conversation_id": Code(
        400, "The conversation id is wrong", "It has 1 to 200 characters of `A-Z a-z 0-9 . _ : -`."
    ),
    "invalid_plan": Code(400, "The plan cannot be run", "Nothing ran; `problems` lists everything wrong with it."),
    "unsupported_type": Code(400, "The message's type is unknown", "`type` names no message that is taken."),
    "unsupported_version": Code(400, "The message's version is unknown", "It was written for a newer daemon."),
    "unauthorized": Code(401, "A token is needed", "The bearer token is missing or wrong."),
    "forbidden": Code(
        403,
        "Not allowed",
        "The `Host` is not ours, a web page of another site sent the request, or the token may only look.",
    ),
    "not_found": Code(404, "There is no such thing", "No such route, conversation or actor."),
    "method_not_allowed": Code(405, "The route does not take this method", "`Allow` says which it takes."),
    "request_timeout": Code(408, "The body came too slowly", "It was not complete in time; nothing was done."),
    "message_id_conflict": Code(
        409, "The message id was used before", "In this conversation, with another body; the first one stands."
    ),
    "conversation_busy": Code(409, "A request is running", "The busy policy is `reject`."),
    "wrong_state": Code(409, "Not in this state", "The conversation's phase does not take this command."),
    "unreadable": Code(
        409, "What is stored cannot be read", "Of this conversation, from `seq` on if said; others are not concerned."
    ),
    "ahead_of_journal": Code(
        409,
        "The journal does not go so far",
        "A stream was to go on after an event there is none of: the store is older than what was read from it, as when "
        "a backup was restored. `seq` is the newest; what was read after it no longer holds.",
    ),
    "too_large": Code(413, "The body is too large", "More than `max_message_bytes`, or too many values in it."),
    "unsupported_media_type": Code(
        415, "The content type is not taken", "Bodies are `application/json` or `application/msgpack`, not compressed."
    ),
    "mailbox_full": Code(
        429,
        "Too many messages wait",
        "This conversation, or the whole daemon, has as many as are taken.",
        retry_after=1.0,
    ),
    "internal": Code(
        500, "Something went wrong inside", "The daemon's log has the details, under the same `instance`."
    ),
    "draining": Code(503, "The daemon is about to stop", "It takes no new work; its successor will.", retry_after=5.0),
    "store_unavailable": Code(
        503,
        "The store takes no work now",
        "Nothing was accepted; with the `outcome` `unknown` it may be all the same: send the same `message_id` again.",
        retry_after=2.0,
    ),
    "held_back": Code(
        503,
        "This conversation is held back",
        "The daemon died again and again, and others are tried first: for at most some minutes. Send the same "
        "`message_id` again, or cancel it.",
        retry_after=5.0,
    ),
    "too_many_connections": Code(
        503, "Too many clients are connected", "Close what is not used, or try later.", retry_after=1.0
    ),
    "too_many_streams": Code(
        503, "Too many clients follow events", "Read the events as JSON, or try later.", retry_after=10.0
    ),
}

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Exception):
    """This request is answered with an error; nothing was done, unless its `outcome` is `unknown`."""

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.code = code if code in CODES else "internal"
        self.detail = detail
        self.members = {key: value for key, value in members.items() if value is not None}
        self.status = CODES[self.code].status
        self.headers = dict(headers or {})
        retry_after = self.members.pop("retry_after", CODES[self.code].retry_after)
        if retry_after is not None and self.status in (429, 503):
            # Whole seconds, rounded up: the header knows no fractions, and 0 would mean at once.
            self.headers.setdefault("Retry-After", str(max(1, ceil(retry_after))))

    @classmethod
    def from_refusal(cls, refused: Refused) -> Problem:
        """Return what a client is told when its message was refused behind the door."""
        problems = list(refused.problems) or None
        if refused.code not in CODES:
            return cls("wrong_state", refused.detail, reason=refused.code)
        outcome = "unknown" if refused.uncertain else None
        return cls(refused.code, refused.detail, retry_after=refused.retry_after, problems=problems, outcome=outcome)

    def body(self) -> dict[str, Any]:
        """Return the answer's body."""
        return {
            "type": f"urn:orchestrator:error:{self.code}",
            "title": CODES[self.code].title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.members,
        }


_HEAD: Final = """# Errors

Written from the table in `gateway/problems.py`; a test fails when this page is stale.

Every error over HTTP is `application/problem+json`: `type`, `title`, `status`, `detail` (a sentence for people) and
`code`, which is stable: programs should look at it alone. Some have more: `field` (which field or parameter),
`problems` (everything wrong with a plan), `instance` (what to look for in the log), `outcome` (`unknown`: not even the
daemon can say yet whether it was accepted). 429 and 503 carry `Retry-After` in seconds.

| code | status | meaning |
|---|---|---|
"""


def markdown() -> str:
    """Return docs/errors.md."""
    return _HEAD + "".join(f"| `{name}` | {code.status} | {code.meaning} |\n" for name, code in CODES.items())


if __name__ == "__main__":
    sys.stdout.write(markdown())
