"""The engines that there are to compute relations with."""

import re
from pathlib import Path
from typing import Literal

from pydantic import ByteSize, TypeAdapter, ValidationError

from musenet.engines.engine import Engine, open_duckdb
from musenet.errors import ConfigError

EngineName = Literal["duckdb", "spark"]

LEAST_MEMORY = 256 << 20


def bytes_of(size: str) -> int:
    """Bytes of a size such as `4GB` or `512MiB`.

    Raises:
        ConfigError: if it is none, or too little to work with.
    """
    # Of `1.2.3GB` pydantic would take what it understands, one byte, and forget the rest.
    whole = re.fullmatch(r"\s*\d*\.?\d+\s*[A-Za-z]*\s*", size)
    try:
        found = TypeAdapter(ByteSize).validate_python(size) if whole else 0
    except ValidationError:
        found = 0
    if not found:
        raise ConfigError(f"--memory-limit: '{size}' is no size: write it as 4GB or 512MiB")
    if found < LEAST_MEMORY:
        raise ConfigError(f"--memory-limit: {size} is too little to prepare a log with: give at least 256MiB")
    return int(found)


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
