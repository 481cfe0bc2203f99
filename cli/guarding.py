"""What every verb has in common: its failures become words on stderr and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from cli import exit_codes
from cli.terminal import NotPrinted, words
from config import ConfigError
from gateway.client import Problem, Unreachable

P = ParamSpec("P")


def verb(function: Callable[P, int | None]) -> Callable[P, None]:
    """Let a function that returns an exit code (None: done) be a verb."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        code = run(lambda: function(*args, **kwargs))
        if code:
            raise typer.Exit(code)

    return guarded


def run(function: Callable[[], int | None]) -> int:
    """Call `function`; return its exit code, or the one its failure means."""
    try:
        return function() or exit_codes.DONE
    except ConfigError as error:
        words(str(error))
        return exit_codes.BAD_CONFIGURATION
    except Unreachable as error:
        words(f"error: {error}", "start one with `orch serve`, or name it with --url or ORCHESTRATOR_URL")
        return exit_codes.UNREACHABLE
    except Problem as problem:
        words(f"error: {problem.detail} ({problem.code})", *_each(problem))
        return exit_codes.OF_PROBLEM.get(problem.code, exit_codes.FAILED)
    except TimeoutError as error:
        words(f"error: {error}" if str(error) else "error: waited in vain")
        return exit_codes.TIMED_OUT
    except KeyboardInterrupt:
        words("")
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough (`orch events c1 | head`).
        _print_nowhere()
        return exit_codes.DONE
    except NotPrinted as error:
        _print_nowhere()
        words(f"error: the result could not be printed: {error}")
        return exit_codes.FAILED


def _print_nowhere() -> None:
    """Let what is still buffered for stdout go nowhere: the interpreter writes it at its end, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _each(problem: Problem) -> list[str]:
    found = problem.body.get("problems") or []
    return [f"- {p['where']}: {p['problem']}" for p in found]
