"""The base of every typed option: unknown keys are refused, and so are values that do not fit, set later or not."""

import difflib
import re
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, TypeAdapter, ValidationError

from musenet.errors import ConfigError


class Options(BaseModel):
    """A part of an experiment's configuration; to set what does not fit raises `ConfigError`."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, populate_by_name=True)

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.copy()
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            self.__dict__.update(before)  # where it is the whole that does not fit, the part was set already
            if error.errors()[0]["type"] == "no_such_attribute":
                near = difflib.get_close_matches(name, type(self).model_fields, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(type(self).model_fields)}"
                raise ConfigError(f"{name}: there is no such key; {hint}") from error
            if not can_vary(self, name):
                raise ConfigError(
                    f"{name}: {value!r} has other keys than {getattr(self, name)!r}: set the whole part, as in "
                    "experiment.model = {'name': 'din'}"
                ) from error
            raise ConfigError(f"{name}: {value!r} does not fit ({reason(error)})") from error


AnyOptions = TypeVar("AnyOptions", bound=Options)


def one_of(kinds: Iterable[type[Options]], key: str) -> Any:
    """The type of options that may be of any of these kinds, told apart by the value of one key."""
    return Annotated[reduce(or_, kinds), Field(discriminator=key)]


def value_at(options: Options, key: str) -> Any:
    """The value of a dotted key; raises `KeyError` if these options have no such key.

    >>> from musenet.config.training import TrainingOptions
    >>> value_at(TrainingOptions(), "epochs")
    2
    """
    found: Any = options
    for name in key.split("."):
        if not isinstance(found, Options) or name not in type(found).model_fields:
            raise KeyError(key)
        found = getattr(found, name)
    return found


def can_vary(options: Options, key: str) -> bool:
    """Whether these options have a dotted key, and it takes more than one value.

    >>> from musenet.config.training import TrainingOptions
    >>> can_vary(TrainingOptions(), "epochs"), can_vary(TrainingOptions(), "epoch")
    (True, False)
    """
    *parents, last = key.split(".")
    try:
        owner = value_at(options, ".".join(parents)) if parents else options
        value_at(options, key)
    except KeyError:
        return False
    kind = type(owner).model_fields[last].annotation
    return not (get_origin(kind) is Literal and len(get_args(kind)) == 1)


def with_value(options: AnyOptions, key: str, value: object) -> AnyOptions:
    """The same options, validated anew, with another value at a dotted key.

    Raises:
        KeyError: if they have no such key.
        ValidationError: if they do not take the value.
    """
    value_at(options, key)
    content = options.model_dump(by_alias=True)
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    return type(options).model_validate(content)


def reason(error: ValidationError) -> str:
    """Why a single value was refused, in pydantic's or a validator's words."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")


_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?\s*")


def parse_duration(value: object) -> object:
    """Turn `7 days` or `90 minutes` into seconds; numbers are seconds already.

    >>> parse_duration("2 days")
    172800.0
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(
            f"'{value}' is not a duration: write a number of seconds, or for example '7 days' or '90 minutes'"
        )
    return float(match[1]) * _UNITS[match[2]]


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=float | str),
    Field(ge=0, allow_inf_nan=False, description="a duration: seconds, or for example `7 days`"),
]


def bytes_in(size: str) -> int | None:
    """Bytes of a size such as `4GB` or `512MiB`; None if it is none.

    >>> bytes_in("4GB")
    4000000000
    """
    # Of `1.2.3GB` pydantic would take what it understands, one byte, and forget the rest.
    if re.fullmatch(r"\s*\d*\.?\d+\s*[A-Za-z]*\s*", size) is None:
        return None
    try:
        return int(TypeAdapter(ByteSize).validate_python(size)) or None
    except ValidationError:
        return None
