"""All agents by name: found in the modules that the configuration names, or declared there."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from types import FunctionType
from typing import Any

from agents.contract import Contract
from agents.decorator import make_spec, spec_of
from agents.errors import AgentDefinitionError, UnknownAgent
from agents.spec import OPTIONS, AgentSpec, check_spec, listed, unknown_option


class Registry:
    """Fixed once it is made; a reload makes another."""

    def __init__(self, specs: Sequence[AgentSpec] = ()) -> None:
        self._specs: dict[str, AgentSpec] = {}
        for spec in specs:
            self._add(spec)
        self._check_fallbacks()

    @classmethod
    def from_config(cls, modules: Sequence[str], declared: Mapping[str, Mapping[str, Any]]) -> Registry:
        """Import the modules and apply the declarations, which win over decorators.

        Raises `AgentDefinitionError`: nothing is imported but what the configuration names.
        """
        specs: dict[str, AgentSpec] = {}
        for module in modules:
            for spec in _found_in(module):
                other = specs.get(spec.name)
                if other is not None and other.function is not spec.function:
                    places = f"{other.module}:{other.qualname} and {spec.module}:{spec.qualname}"
                    raise AgentDefinitionError(f"two agents are named {spec.name}: {places}; give one another name")
                specs[spec.name] = spec
        for name, table in declared.items():
            specs[name] = _declared(name, table, specs.get(name))
        return cls(list(specs.values()))

    def get(self, name: str) -> AgentSpec:
        """Return an agent. Raises `UnknownAgent` with the closest name."""
        spec = self._specs.get(name)
        if spec is None:
            raise UnknownAgent(f"there is no agent {name!r}{self.closest(name)}")
        return spec

    def find(self, name: str) -> AgentSpec | None:
        """Return an agent, or None."""
        return self._specs.get(name)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._specs)

    def closest(self, name: str) -> str:
        """Return `; did you mean 'x'?` or nothing."""
        close = get_close_matches(name, self._specs, n=1)
        return f"; did you mean {close[0]!r}?" if close else ""

    def describe(self) -> dict[str, str]:
        """Return what each agent says it does."""
        return {name: self._specs[name].description for name in self.names()}

    def __iter__(self) -> Iterator[AgentSpec]:
        """Yield the agents by name."""
        return iter([self._specs[name] for name in self.names()])

    def __len__(self) -> int:
        return len(self._specs)

    def _add(self, spec: AgentSpec) -> None:
        if spec.name in self._specs:
            raise AgentDefinitionError(f"two agents are named {spec.name}")
        self._specs[spec.name] = spec

    def _check_fallbacks(self) -> None:
        for spec in self:
            kind, _, other = spec.on_failure.partition(":")
            if kind == "fallback" and other not in self._specs:
                known = self.closest(other)
                raise AgentDefinitionError(f"agent {spec.name}: its fallback {other!r} is no agent{known}")
            if kind == "fallback":
                _check_inputs(spec, self._specs[other])


def _check_inputs(spec: AgentSpec, other: AgentSpec) -> None:
    """Refuse a fallback that could never take over: every call gives `spec` its required inputs, and those alone."""
    foreign = spec.contract.required() - set(other.contract.fields)
    lacking = other.contract.required() - set(spec.contract.fields)
    for name in sorted(foreign | lacking):
        fault = "does not take" if name in foreign else "also needs"
        raise AgentDefinitionError(f"agent {spec.name}: its fallback {other.name} {fault} the input {name}")


def load_function(name: str, what: str) -> Any:
    """Return the function or type at `module:name`. Raises `AgentDefinitionError` saying what is not there."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise AgentDefinitionError(f"{what} is {name!r}; it takes module:function")
    found: Any = _import(module_name, what)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise AgentDefinitionError(f"{what}: {module_name} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise AgentDefinitionError(f"{what}: {name} is a {type(found).__name__}, not a function")
    return found


def _import(module: str, what: str) -> Any:
    _look_here_too()
    try:
        return import_module(module)
    except AgentDefinitionError:
        raise
    except (Exception, SystemExit) as error:  # a module can fail to import in any way; the person needs its name
        raise AgentDefinitionError(f"{what}: cannot import {module}: {type(error).__name__}: {error}") from error


def _look_here_too() -> None:
    """Let modules of the working directory be found, last of all: an installed `orch` would not look there."""
    with suppress(OSError):  # a directory that was deleted
        if (here := os.getcwd()) not in sys.path:  # noqa: PTH109  # as text, as it stands in sys.path
            sys.path.append(here)


def _found_in(module: str) -> list[AgentSpec]:
    imported = _import(module, "agents_from")
    # Only functions are looked into: a module may hold things that raise whatever is asked of them.
    functions = [value for value in vars(imported).values() if issubclass(type(value), FunctionType)]
    found = [spec for function in functions if (spec := spec_of(function)) is not None]
    if not found:
        raise AgentDefinitionError(f"agents_from: {module} holds no function with @agent")
    return found


def _declared(name: str, table: Mapping[str, Any], known: AgentSpec | None) -> AgentSpec:
    options = dict(table)
    where = f"[agents.{name}]"
    kind = options.pop("kind", "python")
    if kind != "python":
        raise AgentDefinitionError(f"{where}: kind is {kind!r}; this build has only 'python'")
    function_name = options.pop("function", None)
    for option in options:
        if option not in OPTIONS or option == "name":
            raise AgentDefinitionError(f"{where}: {unknown_option(option, also=['function'])}")
    options = {option: value for option, value in options.items() if value is not None}
    options |= {
        option: listed(options[option])
        for option in ("examples", "transient", "permanent", "environment")
        if option in options
    }
    for option in ("transient", "permanent"):
        if option in options:
            options[option] = tuple(_exception(f"{where}: {option}", each) for each in options[option])
    options["name"] = name
    function: Any = None if function_name is None else load_function(function_name, f"{where}: function")
    base = known if function is None else spec_of(function)
    if base is not None:
        contract = base.contract if base.name == name else Contract(name, base.function)  # its errors tell the name
        return check_spec(replace(base, contract=contract, **options))
    if function is None:
        raise AgentDefinitionError(f"{where}: it names no function, and no module of agents_from has this agent")
    return make_spec(function, options)


def _exception(where: str, name: Any) -> Any:
    if isinstance(name, type):
        return name
    if not isinstance(name, str):
        raise AgentDefinitionError(f"{where} holds {name!r}; it takes names of exception types")
    if ":" not in name and not hasattr(builtins, name):
        raise AgentDefinitionError(f"{where} holds {name!r}; it takes module:ErrorType, or the name of a built-in one")
    return load_function(name if ":" in name else f"builtins:{name}", where)
