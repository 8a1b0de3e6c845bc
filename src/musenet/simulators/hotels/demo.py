"""The bundled demo: its log, simulated, and its experiment, written into a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from musenet.errors import UserError
from musenet.files import write_text
from musenet.simulators.hotels.hotels import SCHEMAS, HotelOptions, simulate_hotels
from musenet.simulators.hotels.visits import CANDIDATES

NAME, IMPRESSIONS = "hotels-demo", 600_000
CONFIG = Path(__file__).with_name("demo.yaml")


def write_demo(folder: Path, options: HotelOptions, progress: Callable[[int, int], None] | None = None) -> Path:
    """Make sure that the folder holds the demo's configuration and, simulated for it, `log`; what is there is kept.

    Args:
        folder: of the demo; a new one, an empty one, or that of an earlier call.
        options: of the log.
        progress: of simulating, as of `simulate_hotels`.

    Returns:
        The configuration, a YAML.

    Raises:
        UserError: if the folder holds something else, or the disk does not take the files.
    """
    config, log, text = folder / CONFIG.name, folder / "log", CONFIG.read_text(encoding="utf-8")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder for the demo with --out")
    if not config.exists():
        if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise UserError(f"{folder} holds something else than this demo: name another folder with --out")
        write_text(config, text)
    elif config.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{config} was changed, or is of another version of musenet: run it as `musenet demo {config}`, "
            "or name another folder with --out"
        )
    if not log.exists():
        simulate_hotels(log, options, progress)
    elif not _holds(log, options.impressions // CANDIDATES * CANDIDATES):
        raise UserError(
            f"{log} is not the demo's log of {options.impressions:,} impressions: name another folder with --out, "
            "or give --impressions as before"
        )
    return config


def _holds(log: Path, impressions: int) -> bool:
    try:
        rows: dict[str, int] = {name: pq.read_metadata(log / f"{name}.parquet").num_rows for name in SCHEMAS}
    except (OSError, pa.ArrowInvalid):
        return False
    return rows["impressions"] == impressions
