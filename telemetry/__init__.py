"""What is told about the daemon's work: log events, metrics, operation rows; one catalogue of names."""

from telemetry.logs import exception_lines, routed
from telemetry.rows import Sink
from telemetry.telemetry import Telemetry

__all__ = ["Sink", "Telemetry", "exception_lines", "routed"]
