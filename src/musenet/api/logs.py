"""Calls on log files: looked at, and simulated."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from musenet.errors import ConfigError
from musenet.sources.log import AnyPath
from musenet.storage.addresses import here

AnyOptions = TypeVar("AnyOptions", bound=BaseModel)


def init(files: Iterable[AnyPath], out: AnyPath) -> Path:
    """Look at Parquet or CSV files and write a commented configuration for them; never overwrites."""
    from musenet.sources.guess.configuration import write_config

    write_config([Path(file) for file in files], here(out))
    return Path(out)


def simulate_hotels(
    out: AnyPath, *, progress: Callable[[int, int], None] | None = None, **options: float | str
) -> dict[str, int]:
    """Write a simulated hotel log with planted scenarios; the number of rows of each file.

    `options` are those of `HotelOptions` in `musenet.simulators.hotels.hotels`; others raise `ConfigError`.
    """
    from musenet.simulators.hotels.hotels import HotelOptions
    from musenet.simulators.hotels.hotels import simulate_hotels as simulate

    return simulate(here(out), options_of("simulate hotels", HotelOptions, options), progress)


def simulate_ads(
    out: AnyPath, *, progress: Callable[[int, int], None] | None = None, **options: float | None
) -> dict[str, int]:
    """Write files of the schema and the published figures of Ali Display Ads; the number of rows of each file.

    `options` are those of `AdsOptions` in `musenet.simulators.ads.ads`; others raise `ConfigError`.
    """
    from musenet.simulators.ads.ads import AdsOptions
    from musenet.simulators.ads.ads import simulate_ads as simulate

    return simulate(here(out), options_of("simulate ads", AdsOptions, options), progress)


def options_of(command: str, kind: type[AnyOptions], options: Mapping[str, Any]) -> AnyOptions:
    """Validated options of a command; raises `ConfigError` naming what does not fit."""
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        mistakes = [
            ": ".join([*map(str, detail["loc"]), detail["msg"].removeprefix("Value error, ")])
            + (f" (found {detail['input']!r})" if detail["loc"] else "")
            for detail in error.errors()
        ]
        raise ConfigError(f"{command}: " + "; ".join(mistakes)) from error
