"""What the log says of a conversation's events has the names and fields that the interface promises."""

from __future__ import annotations

from conversation_driver import Conversation, node, plan

from conversation.reports import reports
from messages.events import Journaled


def errors(events: list[Journaled]) -> list[dict[str, object]]:
    return [fields for name, fields in reports(events) if name == "error"]


def test_every_failure_of_a_node_is_one_error_with_what_it_was_and_what_follows():
    """Who was tried again had neither type nor class, and who was given up had no line at all."""
    talk = Conversation()
    talk.ask(plan(node("a"), node("b")))
    (again,) = errors(talk.fail("a", retry_in=2.0))
    assert (again["error_type"], again["error_class"]) == ("ValueError", "permanent")
    assert (again["node_id"], again["attempt"], again["retry_count"], again["retry_delay"]) == ("a", 1, 1, 2.0)
    talk.retry("a")
    (given_up,) = errors(talk.fail("a"))
    assert (given_up["error_type"], given_up["attempt"], given_up["retry_count"]) == ("ValueError", 2, 1)
    assert given_up["retry_delay"] is None
    assert [name for name, _ in reports(talk.succeed("b"))][:1] == ["agent_call"]
