"""Plans that clients send are often the same plan: what was found sound is not checked again.

Checking costs more than anything else that is done to accept a message with a plan (docs/performance.md).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from agents.registry import Registry
from messages.plan import Plan, ResolvedPlan
from planning.resolve import PlanLimits, resolve

_PLANS: Final = 512
_BYTES: Final = 8_192
"""Longer plans are checked every time, so that what is remembered stays within a few megabytes."""


class RememberedPlans:
    """Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._for: tuple[Registry, PlanLimits] | None = None
        self._plans: OrderedDict[bytes, ResolvedPlan] = OrderedDict()

    def resolve(self, plan: Plan, registry: Registry, limits: PlanLimits) -> ResolvedPlan:
        """Return the plan as it will be run, for these agents and limits. Raises `planning.resolve.InvalidPlan`."""
        key = plan.__pydantic_serializer__.to_json(plan)
        with self._lock:
            known = self._for
            if known is None or known[0] is not registry or known[1] != limits:
                self._plans.clear()
                self._for = registry, limits
            found = self._plans.get(key)
        if found is not None:
            return found
        resolved = resolve(plan, registry, limits, origin="client")
        with self._lock:
            if len(key) <= _BYTES and self._for is not None and self._for[0] is registry and self._for[1] == limits:
                self._plans[key] = resolved
                while len(self._plans) > _PLANS:
                    self._plans.popitem(last=False)
        return resolved
