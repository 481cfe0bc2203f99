"""The fingerprint of a message is stored: what it is made of may not change from version to version."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from messages.inbound import UserMessage
from router import fingerprint

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20)
PLANS = (
    st.none()
    | st.just({"answer": "yes"})
    | st.builds(
        lambda task, x: {"nodes": [{"id": "a", "agent": "b", "task": task, "inputs": {"x": x, "y": {"$from": "c.d"}}}]},
        TEXT,
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**70), 2**70)
            | st.floats(allow_nan=False, allow_infinity=False)
            | TEXT,
            lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(TEXT, deeper, max_size=3),
            max_leaves=6,
        ),
    )
)


@given(text=TEXT.filter(bool), user=st.none() | TEXT, plan=PLANS, policy=st.sampled_from([None, "reject", "enqueue"]))
def test_it_hashes_the_compact_json_of_what_is_said(text, user, plan, policy):
    said = {"conversation_id": "c", "text": text, "user_id": user, "plan": plan, "busy_policy": policy}
    message = UserMessage.model_validate(said)
    plain = message.model_dump(mode="json", include={"text", "user_id", "plan", "busy_policy"})
    assert fingerprint(message) == hashlib.sha256(to_json(plain)).hexdigest()[:32]
    assert fingerprint(message.model_copy(update={"text": text + "!"})) != fingerprint(message)
