"""The name under which a result may be reused: agent, version of its contract, inputs."""

from __future__ import annotations

import hashlib
import json

from agents.spec import AgentSpec
from messages.agent import RunNode


def cache_key(spec: AgentSpec, call: RunNode) -> str:
    """Return the same text for the same inputs, in whatever order they were given."""
    inputs = dict(call.inputs)
    for name in spec.contract.message_text:
        inputs.setdefault(name, call.text)
    said = json.dumps(inputs, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(f"{spec.name}\0{spec.contract.version}\0{said}".encode()).hexdigest()
