"""An idle conversation stays small, also when many began in the same moment."""

from __future__ import annotations

import gc
import threading

import pytest

from config import Settings
from daemon import Daemon
from messages.inbound import Accepted, UserMessage
from messages.plan import Plan
from serving import make_telemetry
from supervisor import Supervisor

MANY = 200


@pytest.fixture
def daemon(tmp_path):
    settings = Settings(data_dir=tmp_path, persist_conversations=False, http_bind="off", log_level="ERROR")
    telemetry = make_telemetry(settings)
    daemon = Daemon(settings, telemetry)
    daemon.start()
    yield daemon
    daemon.stop()
    telemetry.close(1.0)


def test_supervisors_share_the_names_of_their_attributes(daemon):
    """One that does not share them has a table of its own: a third of what it takes."""
    answers: list[object] = []
    done = threading.Event()

    def answered(answer):
        answers.append(answer)
        if len(answers) == MANY:
            done.set()

    for number in range(MANY):
        daemon.router.submit(UserMessage(conversation_id=f"c{number}", text="hi", plan=Plan(answer="hello")), answered)
    assert done.wait(20)
    assert all(isinstance(answer, Accepted) for answer in answers)
    supervisors = [each for each in gc.get_objects() if type(each) is Supervisor and each.system is daemon.system]
    assert len(supervisors) == MANY
    apart = [each.path for each in supervisors if any(type(part) is dict for part in gc.get_referents(each))]
    assert not apart
