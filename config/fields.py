"""What settings are made of: parsers for their types, their accepted forms in words, and masks for secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin
from urllib.parse import unquote

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from config.durations import DURATION_FORM, SIZE_FORM, parse_duration, parse_size

PREFIX: Final = "ORCHESTRATOR_"


@dataclass(frozen=True, slots=True)
class About:
    """What a setting's type does not say."""

    unit: str = ""
    live: bool = False
    """True when a reload may change it in a running daemon."""
    fallback: str = ""
    """Environment variable read when nobody set it."""
    cost_when: Any = None
    """The value that costs something."""
    cost: str = ""
    """What it costs, in one sentence."""


@dataclass(frozen=True, slots=True)
class Accepts:
    """The accepted form of a value, in words."""

    form: str


# What a setting's type may be built of


def number(value: object) -> object:
    """Refuse true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number, not a truth value")  # noqa: TRY004  # pydantic turns only ValueError into a problem
    return value


def names(value: object) -> object:
    """Split a comma-separated text; leave lists alone."""
    return [part for each in value.split(",") if (part := each.strip())] if isinstance(value, str) else value


def off(parse: Callable[[object], object] = lambda value: value) -> Callable[[object], object]:
    """Return a parser that takes `off` for "not set"."""
    return lambda value: None if value is None or value == "off" else parse(value)


def pattern(expression: str) -> AfterValidator:
    """Return a validator that holds a text, or each of several, to `expression`."""
    compiled = re.compile(expression)

    def check(value: Any) -> Any:
        texts = value if isinstance(value, (tuple, list)) else () if value is None else (value,)
        if not all(compiled.fullmatch(text) for text in texts):
            raise ValueError("not of the accepted form")
        return value

    return AfterValidator(check)


def utf8_path(value: Path) -> Path:
    """Refuse a path that no text can name: drivers are given paths as addresses, in UTF-8."""
    if "\0" in str(value):
        raise ValueError("a NUL character")
    str(value).encode()  # UnicodeEncodeError is a ValueError
    return value


def address(value: object) -> object:
    """Check `HOST:PORT`; 0 lets the system pick the port."""
    if not isinstance(value, str):
        raise ValueError("HOST:PORT")  # noqa: TRY004  # pydantic turns only ValueError into a problem
    host, colon, port = value.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if value != "off" and not (
        colon and host and port.isascii() and port.isdigit() and int(port) < 65_536 and (bracketed or ":" not in host)
    ):
        raise ValueError("HOST:PORT")
    return value.strip()


Whole = Annotated[int, BeforeValidator(number)]
Number = Annotated[float, BeforeValidator(number)]
Duration = Annotated[float, BeforeValidator(parse_duration), Accepts(DURATION_FORM)]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size), Accepts(SIZE_FORM)]
"""Bytes."""
Names = Annotated[tuple[str, ...], BeforeValidator(names)]
Timeout = Annotated[Duration, Field(gt=0, le=86_400)]
"""At most a day, like every timeout of a plan (messages/plan.py)."""
Retries = Annotated[Whole, Field(ge=0, le=1_000)]

MODULE: Final = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
FUNCTION: Final = rf"{MODULE}:{MODULE}"
"""Regular expressions of a module's name and of `module:function`."""


# Words


def about(field: FieldInfo) -> About:
    """Return what is said about a setting besides its type."""
    return next((each for each in field.metadata if isinstance(each, About)), About())


def accepted_form(field: FieldInfo) -> str:
    """Return the accepted form of a setting's values, in words."""
    metadata = [*field.metadata, *(extra for arm in get_args(field.annotation) for extra in _metadata(arm))]
    said = next((each.form for each in metadata if isinstance(each, Accepts)), None)
    base = said or _base_form(field.annotation)
    limits = [
        words
        for each in metadata
        for words in (
            f"at least {each.ge}" if isinstance(each, Ge) else "",
            f"above {each.gt}" if isinstance(each, Gt) else "",
            f"at most {each.le}" if isinstance(each, Le) else "",
        )
        if words
    ]
    return f"{base} ({', '.join(limits)})" if limits and said else ", ".join([base, *limits])


def _metadata(arm: Any) -> tuple[Any, ...]:
    flat: list[Any] = []
    for each in getattr(arm, "__metadata__", ()):
        flat.extend(each.metadata if isinstance(each, FieldInfo) else [each])
    return tuple(flat)


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the values of a `Literal`, or of one among alternatives; nothing for other types."""
    args = get_args(annotation)
    if args and all(isinstance(arg, str) for arg in args):
        return tuple(args)
    return next((found for arg in args if (found := choices(arg))), ())


def _base_form(annotation: Any) -> str:
    if options := choices(annotation):
        return " or ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]
    plain_type = next((arg for arg in _bases(annotation) if arg is not type(None)), str)
    return {
        bool: "true or false",
        Path: "a path",
        int: "a whole number",
        float: "a number",
        tuple: "a list of names",
    }.get(plain_type, "a text that is not empty")


def _bases(annotation: Any) -> list[Any]:
    if hasattr(annotation, "__metadata__"):
        return _bases(annotation.__origin__)
    origin = get_origin(annotation)
    if origin is None or origin is tuple:
        return [origin or annotation]
    return [base for arg in get_args(annotation) for base in _bases(arg)]


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` was probably meant to be."""
    bare = name.lower().removeprefix(PREFIX.lower()).replace("-", "_")
    by_lower = {each.lower(): each for each in known}
    found = get_close_matches(bare, by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


# Secrets


_SECRETIVE: Final = re.compile(
    r"token|secret|passw|api_?key|dsn|credential|(redis|database|postgres)\w*url", re.IGNORECASE
)
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s@/?#]*@)?"
    r"(?P<rest>(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*)(:\d+)?(/[^\s@?#]*)?)([?#][^\s@]*)?"
)


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting's value must not be shown."""
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def looks_secret(name: str) -> bool:
    """Whether a name nobody knows sounds like a secret's; counts of tokens are none."""
    return bool(_SECRETIVE.search(name.replace("-", "_"))) and not name.lower().endswith("_tokens")


def mask(value: Any) -> str:
    """Return what may be shown of a secret: of a URL its host and path, of anything else nothing."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    match = _URL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return "***"
    return f"{match['scheme']}{'***@' if match['user'] else ''}{match['rest']}"


def plain(value: Any, secret: bool) -> Any:
    """Return a value as plain JSON, a secret masked, a whole float as an int."""
    if value is None or isinstance(value, (bool, int, str)):
        return mask(value) if secret and value is not None else value
    if isinstance(value, SecretStr):
        return mask(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(key): plain(each, secret) for key, each in value.items()}
    return [plain(each, secret) for each in value] if isinstance(value, (tuple, list)) else str(value)


def show(value: Any) -> str:
    """Return a value as people write it, on one line, clipped, passwords inside a URL masked."""
    text = mask(value) if isinstance(value, str) and "://" in value else value
    words = repr(text)
    return words if len(words) <= 100 else words[:99] + "…"


def secret_values(settings: BaseSettings) -> tuple[str, ...]:
    """Return every secret as text, and the passwords inside connection strings on their own, decoded or not."""
    whole = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
    parts = [
        part
        for text in whole
        for found in re.finditer(r"://[^\s:@/]*:([^\s]*)@|[?&]password=([^&\s]+)|\bpassword\s*=\s*('[^']*'|\S+)", text)
        for part in found.groups()
        if part
    ]
    stripped = [part.strip("'") for part in parts]
    return tuple(dict.fromkeys([*whole, *stripped, *(unquote(part) for part in stripped)]))
