"""What an agent can be: a typed Python function, its contract, and the registry of all of them."""

from agents.context import Context
from agents.contract import MessageText
from agents.decorator import agent
from agents.errors import PermanentError, TransientError

__all__ = ["Context", "MessageText", "PermanentError", "TransientError", "agent"]
