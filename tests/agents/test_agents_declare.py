"""A declaration says what an agent is, and a wrong one is refused at import with the words that help."""

from __future__ import annotations

import math

import pytest

from agents import Context, MessageText, agent
from agents.decorator import spec_of
from agents.errors import AgentDefinitionError


def declare(**options):
    @agent(**options)
    def shelf(sku: str) -> int:
        """Count what is there."""
        return len(sku)

    return shelf


def test_the_function_stays_as_it_is_and_its_spec_says_what_was_declared():
    shelf = declare(examples=["how many?"], timeout=5, retries=0, transient=(OSError,), effects="write", cache_ttl=0.5)
    spec = spec_of(shelf)
    assert shelf("abc") == 3
    assert spec.function is shelf
    assert (spec.name, spec.description, spec.examples) == ("shelf", "Count what is there.", ("how many?",))
    assert (spec.timeout, spec.retries, spec.transient, spec.effects, spec.cache_ttl) == (
        5,
        0,
        (OSError,),
        "write",
        0.5,
    )
    assert not spec.is_async


def test_bare_use_takes_every_default():
    @agent
    async def nothing() -> None:
        """Do nothing."""

    spec = spec_of(nothing)
    assert spec.is_async
    assert (spec.timeout, spec.retries, spec.max_concurrency, spec.on_failure) == (None, None, None, "skip")
    assert (spec.effects, spec.isolation, spec.on_unknown_outcome, spec.approval) == ("read", "thread", "retry", False)


def test_one_example_or_one_error_type_needs_no_list():
    spec = spec_of(declare(examples="how many?", transient=OSError))
    assert (spec.examples, spec.transient) == (("how many?",), (OSError,))


WRONG = [
    ("memory_mb", 8, "whole number of 16 or more"),
    ("memory_mb", 64, "isolation='process'"),
    ("environment", ("KEY",), "isolation='process'"),
    ("timeout", 0, "positive number of seconds"),
    ("timeout", -1, "positive number of seconds"),
    ("timeout", math.nan, "positive number of seconds"),
    ("timeout", math.inf, "positive number of seconds"),
    ("timeout", True, "positive number of seconds"),
    ("timeout", "5s", "positive number of seconds"),
    ("min_backoff", 0, "positive number of seconds"),
    ("cache_ttl", "1h", "positive number of seconds"),
    ("retries", -1, "whole number of 0 or more"),
    ("retries", 1.5, "whole number of 0 or more"),
    ("retries", True, "whole number of 0 or more"),
    ("max_concurrency", 0, "whole number of 1 or more"),
    ("transient", 5, "exception types"),
    ("transient", ("OSError",), "exception types"),
    ("permanent", int, "exception types"),
    ("effects", "delete", "'read' or 'write'"),
    ("isolation", "container", "'thread' or 'process'"),
    ("isolation", ["thread"], "'thread' or 'process'"),
    ("on_unknown_outcome", "skip", "'retry' or 'fail'"),
    ("approval", 1, "True or False"),
    ("on_failure", "fallback", "'fallback:AGENT'"),
    ("on_failure", "fallback:shelf", "another agent"),
    ("name", "two words", "letters, digits"),
    ("name", 5, "letters, digits"),
    ("name", "", "letters, digits"),
    ("examples", [5], "text"),
    ("reply", 5, "text"),
]


@pytest.mark.parametrize(("option", "value", "right"), WRONG)
def test_a_wrong_option_names_function_option_value_and_what_is_right(option, value, right):
    with pytest.raises(AgentDefinitionError) as caught:
        declare(**{option: value})
    said = str(caught.value)
    shown = value[0] if isinstance(value, (list, tuple)) and option != "isolation" else value
    assert "shelf" in said and option in said and repr(shown) in said and right in said


def test_backoffs_must_not_be_the_wrong_way_round():
    with pytest.raises(AgentDefinitionError, match=r"max_backoff is 1; it takes at least min_backoff, which is 2"):
        declare(min_backoff=2, max_backoff=1)


def test_an_unknown_option_comes_with_the_closest_one():
    with pytest.raises(AgentDefinitionError, match=r"shelf: there is no option 'timout'; did you mean 'timeout'\?"):
        declare(timout=5)


@pytest.mark.parametrize("option", ["function", "contract", "is_async", "module", "qualname"])
def test_what_is_read_from_the_function_is_no_option(option):
    with pytest.raises(AgentDefinitionError, match="there is no option"):
        declare(**{option: "x"})


def test_a_process_needs_a_function_it_can_import_that_is_not_async():
    with pytest.raises(AgentDefinitionError, match="a process cannot import it"):
        declare(isolation="process")
    with pytest.raises(AgentDefinitionError, match="it has the event loop"):

        @agent(isolation="process")
        async def both() -> int:
            """Be both."""
            return 1


def no_docstring(x: int) -> int:
    return x


def no_return(x: int):
    """Lack the other half of the contract."""


def no_annotation(x) -> int:
    """Lack a type."""
    return x


def stars(*args: int) -> int:
    """Take any number."""
    return sum(args)


def keywords(**options: int) -> int:
    """Take anything."""
    return sum(options.values())


def positional(x: int, /) -> int:
    """Cannot be given its input by name."""
    return x


def unreadable(x: Nowhere) -> int:  # noqa: F821  # that is the fault
    """Name a type that does not exist."""
    return x


def no_schema(x: object) -> Trap:  # noqa: F821  # that is the fault
    """Name a result type that does not exist."""


class Opaque:
    """No validator knows what this is."""


def opaque(x: Opaque) -> int:
    """Take what nobody can check."""


def contexts(one: Context, two: Context) -> int:
    """Want it twice."""


def generator(x: int) -> int:
    """Give several."""
    yield x


async def async_generator(x: int) -> int:
    """Give several, later."""
    yield x


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (no_docstring, "docstring"),
        (no_return, "return annotation"),
        (no_annotation, "x needs an annotation"),
        (stars, "args must be given by name"),
        (keywords, "options must be given by name"),
        (positional, "x must be given by name"),
        (unreadable, "cannot be read"),
        (no_schema, "cannot be read"),
        (opaque, "no contract"),
        (contexts, "second Context"),
        (generator, "yields"),
        (async_generator, "yields"),
        (Opaque, "not a function"),
        (len, "not a function"),
        (5, "not a function"),
    ],
)
def test_what_is_no_agent_is_refused_by_name(function, why):
    with pytest.raises(AgentDefinitionError, match=why) as caught:
        agent(function)
    assert getattr(function, "__name__", repr(function)) in str(caught.value)


def test_an_alias_is_refused_because_plans_speak_of_parameters():
    from pydantic import Field

    def aliased(sku=Field(alias="SKU")) -> int:  # noqa: B008  # that is how pydantic is used
        """Go by another name."""

    aliased.__annotations__["sku"] = str
    with pytest.raises(AgentDefinitionError, match="alias"):
        agent(aliased)


def test_context_and_message_text_are_no_required_inputs():
    @agent
    def both(text: MessageText, ctx: Context, limit: int = 3) -> str:
        """Say it."""

    contract = spec_of(both).contract
    assert contract.context_parameter == "ctx"
    assert contract.message_text == ("text",)
    assert contract.required() == set()
    assert list(contract.fields) == ["text", "limit"]
