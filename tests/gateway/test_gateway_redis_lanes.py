"""Order of stream entries: one lane per conversation, whatever has to wait. No server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.redis_lanes import Entry, Lanes
from messages.inbound import UserMessage


def entry(number: int, conversation_id: str) -> Entry:
    return Entry(f"{number}-0", conversation_id, UserMessage(conversation_id=conversation_id, text=str(number)))


@given(st.data())
def test_entries_of_one_conversation_are_settled_in_order_and_none_is_forgotten(data):
    """Under any mixture of arrivals, waits and settlements."""
    lanes, now, added, settled, under_way = Lanes(), 0.0, 0, [], []
    for _ in range(data.draw(st.integers(1, 60))):
        what = data.draw(st.sampled_from(["add", "take", "settle", "hold"]))
        if what == "add":
            added += 1
            lanes.add(entry(added, data.draw(st.sampled_from("abc"))))
        elif what == "take":
            now += 1
            for one in lanes.take(now):
                if one.message is None:
                    lanes.load(one, UserMessage(conversation_id=one.conversation_id, text="again"))
                lanes.ask(one, now)
                under_way.append(one)
        elif under_way:
            one = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            if what == "settle":
                lanes.settle(one)
                settled.append(one)
            else:
                lanes.hold(one, now + data.draw(st.integers(0, 3)), unload=data.draw(st.booleans()))
        conversations = [one.conversation_id for one in under_way]
        assert len(set(conversations)) == len(conversations), "two of one conversation under way"
        assert lanes.loaded == sum(lanes.find(i).message is not None for i in lanes.ids())
        assert lanes.asked == len(under_way)
    while len(lanes):
        now += 10
        for one in [*under_way, *lanes.take(now)]:
            lanes.settle(one)
            settled.append(one)
        under_way.clear()
    assert len(settled) == added
    for conversation_id in "abc":
        numbers = [int(one.id.split("-")[0]) for one in settled if one.conversation_id == conversation_id]
        assert numbers == sorted(numbers)


def test_what_waits_without_its_body_makes_room_for_others():
    lanes = Lanes()
    for number in range(5):
        lanes.add(entry(number, "full"))
    (first,) = lanes.take(0)
    lanes.hold(first, 9.0, unload=True)
    lanes.add(entry(6, "full"))
    lanes.add(entry(7, "free"))
    assert (len(lanes), lanes.loaded) == (7, 1)
    assert [one.conversation_id for one in lanes.take(1.0)] == ["free"]
    assert lanes.due() == 9.0


def test_what_is_not_answered_is_overdue_in_the_order_of_asking():
    lanes = Lanes()
    for number, conversation_id in enumerate("ab"):
        lanes.add(entry(number, conversation_id))
    for now, one in enumerate(lanes.take(0)):
        lanes.ask(one, float(now))
    assert [one.conversation_id for one in lanes.overdue(0.5)] == ["a"]
    lanes.give_back([])
    assert lanes.take(5.0) == []
