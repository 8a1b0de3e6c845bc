"""The engines that there are to compute relations with."""

from pathlib import Path
from typing import Literal

from musenet.engines.engine import Engine, open_duckdb
from musenet.errors import ConfigError
from musenet.options import bytes_in

EngineName = Literal["duckdb", "spark"]

LEAST_MEMORY = 256 << 20


def bytes_of(size: str) -> int:
    """Bytes of a size such as `4GB` or `512MiB`.

    Raises:
        ConfigError: if it is none, or too little to work with.
    """
    found = bytes_in(size)
    if found is None:
        raise ConfigError(f"--memory-limit: '{size}' is no size: write it as 4GB or 512MiB")
    if found < LEAST_MEMORY:
        raise ConfigError(f"--memory-limit: {size} is too little to prepare a log with: give at least 256MiB")
    return found


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
