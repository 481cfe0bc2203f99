"""Fixtures of the tests of actors: a system that must end cleanly, and somebody who listens."""

from __future__ import annotations

import pytest
from actors_support import DEADLINE, Log, Recorder
from conformance_support import Diary, World

from actors.system import ActorSystem


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def system(log):
    made = ActorSystem(log=log)
    yield made
    assert made.stop(DEADLINE) == []
    assert made.dispatcher.escapes == 0


@pytest.fixture
def recorder(system):
    """A top-level actor and the queue of what it hears."""
    ref = system.spawn(Recorder, "/recorder")
    return ref, ref._actor_weakref().heard


@pytest.fixture(params=["virtual", "threads"])
def world(request):
    """The same test on virtual time and on real threads."""
    made = World(request.param)
    yield made
    made.close()


@pytest.fixture
def diary():
    return Diary()
