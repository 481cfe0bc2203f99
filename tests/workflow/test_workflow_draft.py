"""Within a step a state is changed in place: of that nothing may be seen outside, also when the step fails half-way."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from test_workflow_properties import World

from messages.base import made
from workflow.decide import take
from workflow.errors import NotTaken
from workflow.evolve import fold
from workflow.state import State


class HalfWayError(Exception):
    """A defect in the middle of a step."""


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_no_state_that_left_a_step_is_ever_changed_whatever_fails_later(seed: int) -> None:
    world = World(seed)
    kept: list[tuple[State, State]] = [(world.state, deepcopy(world.state))]
    steps: list[list[Any]] = []
    for _ in range(40):
        message = world.random_message()
        left = world.chance.randint(0, 4)

        def fails(kind: Any, fields: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise HalfWayError
            return made(kind, fields)

        with patch("workflow.step.made", fails), suppress(HalfWayError, NotTaken):
            take(world.state, message, world.now)
        with suppress(NotTaken):
            events, world.state = take(world.state, message, world.now)
            steps.append(events)
            kept.append((world.state, deepcopy(world.state)))
    for state, then in kept:
        assert state == then
    states = iter(kept)
    folded, _ = next(states)
    for events in steps:
        folded = fold(folded, events)
        assert folded == next(states)[0]
    assert fold(State("c1"), [event for events in steps for event in events]) == world.state
