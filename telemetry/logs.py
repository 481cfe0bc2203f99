"""Routes everybody else's log calls into ours: structlog, the standard library, warnings, exceptions of threads."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, MutableMapping
from types import TracebackType
from typing import Any, Final, NoReturn

import structlog

from telemetry.cleaning import MAX_ITEMS, describe
from telemetry.telemetry import LEVELS, Telemetry

_LEVEL_NAMES: Final = {number: name for name, number in LEVELS.items()}


@contextlib.contextmanager
def routed(telemetry: Telemetry) -> Iterator[None]:
    """Within this context all logging of this process goes through `telemetry`; after it, all is as it was before.

    Libraries are heard from WARNING upwards, and at every level when ours is DEBUG.
    """
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    was = structlog.get_config() if structlog.is_configured() else None
    root.handlers[:] = [_Handler(telemetry)]
    root.setLevel(logging.DEBUG if telemetry.level <= logging.DEBUG else max(telemetry.level, logging.WARNING))
    logging.captureWarnings(True)
    threading.excepthook = _thread_hook(telemetry)
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, _hand_over(telemetry)],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        threading.excepthook = hook
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        if was is not None:
            structlog.configure(**was)


def _hand_over(telemetry: Telemetry) -> structlog.types.Processor:
    def processor(_: Any, name: str, entry: MutableMapping[str, Any]) -> NoReturn:
        fields = dict(entry)
        event, level = str(fields.pop("event", "")), fields.pop("level", name)
        trace = fields.pop("exc_info", None)
        if trace:
            fields["exception"] = exception_lines(sys.exc_info()[1] if trace is True else trace)
        fields.pop("stack_info", None)
        telemetry.log(event, level=level, **fields)
        raise structlog.DropEvent

    return processor


class _Handler(logging.Handler):
    """The standard library's records, as `library_message`."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        try:
            fields["message"] = record.getMessage()
        except Exception as error:  # noqa: BLE001  # arguments that do not fit their text: the library's slip, not ours
            fields["message"] = f"{record.msg!r:.500} ({describe(error)})"
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = exception_lines(record.exc_info[1])
        number = max((n for n in _LEVEL_NAMES if n <= record.levelno), default=logging.DEBUG)
        self._telemetry.log("library_message", level=_LEVEL_NAMES[number], **fields)


def _thread_hook(telemetry: Telemetry) -> Any:
    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or issubclass(args.exc_type, SystemExit):
            return
        telemetry.log(
            "thread_failed",
            thread=args.thread.name if args.thread else None,
            error_type=args.exc_type.__name__,
            error_message=describe(args.exc_value),
            exception=exception_lines(args.exc_value),
        )

    return hook


def exception_lines(error: BaseException | tuple[Any, BaseException | None, TracebackType | None] | None) -> list[str]:
    """Return a traceback as lines, the innermost kept when there are too many; without locals. Never raises."""
    if isinstance(error, tuple):
        error = error[1]
    if error is None:
        return []
    try:
        lines = "".join(traceback.format_exception(error)).splitlines()
    except Exception:  # noqa: BLE001  # an exception that cannot be formatted is still one to report
        return [describe(error)]
    return lines[-MAX_ITEMS:]
