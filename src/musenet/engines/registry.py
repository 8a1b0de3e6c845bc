"""The engines that there are to compute relations with."""

import re
from pathlib import Path
from typing import Literal

from musenet.engines.engine import Engine, open_duckdb
from musenet.errors import ConfigError

EngineName = Literal["duckdb", "spark"]


_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)}
LEAST_MEMORY = 256 << 20


def bytes_of(size: str) -> int:
    """Bytes of a size such as `4GB` or `512MiB`.

    Raises:
        ConfigError: if it is none, or too little to work with.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", size)
    unit = found and _UNITS.get(found[2].upper())
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    if not unit or not number:
        raise ConfigError(f"--memory-limit: '{size}' is no size: write it as 4GB or 512MiB")
    if number * unit < LEAST_MEMORY:
        raise ConfigError(f"--memory-limit: {size} is too little to prepare a log with: give at least 256MiB")
    return int(number * unit)


def open_engine(name: EngineName, folder: Path, memory: int | None) -> Engine:
    """An engine whose tables lie in `folder`.

    Args:
        name: which one.
        folder: where the tables of an interrupted preparation are found again.
        memory: bytes that it may use; its own choice, if None.

    Raises:
        UserError: if the engine, or what it needs, is not installed.
    """
    if name == "spark":
        from musenet.engines.spark import open_spark

        return open_spark(folder, memory)
    return open_duckdb(folder, memory)
