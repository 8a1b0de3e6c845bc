"""The engines that there are to compute relations with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import duckdb
import ibis

from musenet.engines.engine import Engine
from musenet.errors import ConfigError
from musenet.options import bytes_in
from musenet.workspace import SPILLED

EngineName = Literal["duckdb", "spark"]

LEAST_MEMORY = 256 << 20
MEMORY_SHARE = 0.5


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


def open_duckdb(folder: Path, memory: int | None = None) -> Engine:
    """An engine on DuckDB whose tables lie in `folder`, and what it spills too.

    Args:
        folder: where an earlier engine's tables are found again; a file that cannot be opened is begun anew.
        memory: bytes that it may use; half of what is free, if None.
    """
    limit = int(available_memory() * MEMORY_SHARE) if memory is None else memory
    settings: Mapping[str, str] = {"temp_directory": str(folder / SPILLED), "memory_limit": f"{limit >> 20}MiB"}
    file = folder / "prepare.duckdb"
    try:
        return Engine(ibis.duckdb.connect(file, **settings), folder / "rows")
    except duckdb.Error:
        for path in folder.glob("prepare.duckdb*"):
            path.unlink()
        return Engine(ibis.duckdb.connect(file, **settings), folder / "rows")


def available_memory() -> int:
    """Bytes of memory that can be had, within a container's limit; 4 GiB where the system does not say."""
    free = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        if limit != "max":
            free.append(max(int(limit) - int(used), 1 << 28))
    except OSError:
        pass
    return min(free, default=4 << 30)
