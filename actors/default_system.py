"""The actor system of programs that only say `MyActor.start()`: one per process, made when first needed."""

from __future__ import annotations

import threading
from itertools import count

from actors.birth import Birth
from actors.system import ActorSystem

_LOCK = threading.Lock()
_NUMBERS = count(1)
_made: list[ActorSystem] = []


def default_system() -> ActorSystem:
    """Return the process's system; a new one if the last was stopped."""
    with _LOCK:
        if not _made or _made[-1].stopping:
            _made[:] = [ActorSystem(name="default")]
        return _made[-1]


def stop_default_system(timeout: float = 5.0) -> list[str]:
    """Stop it if there is one; return the paths of the actors that did not end within `timeout` seconds."""
    with _LOCK:
        systems = _made.copy()
        _made.clear()
    return [path for system in systems for path in system.stop(timeout)]


def user_path(actor_class: type[Birth]) -> str:
    """Return a new path for an actor that was given none."""
    return f"/user/{actor_class.__name__}-{next(_NUMBERS)}"
