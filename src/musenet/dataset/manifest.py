"""What a dataset folder says of itself: its fields, counts and checksums, and which runs were trained on it.

`layout.py` tells of its other files.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from musenet.dataset.roles import LogTable
from musenet.dataset.texts import ValueType
from musenet.errors import DatasetError
from musenet.files import checksum, write_text
from musenet.workspace import MANIFEST

FORMAT = 2
CHECKSUM = "checksum"
"""The manifest's key of the SHA-256 of all its others."""
RUNS = "runs.txt"
"""Paths of the runs that were begun on the dataset, which the manifest does not count among its files."""
RUNS_NAMED = 5
"""How many of them a message names."""
CHECKED_AT_ONCE = 4
"""Files whose checksums are computed at the same time."""

PADDING, UNSEEN, MISSING, FIRST_VALUE = 0, 1, 2, 3

Split = Literal["train", "valid", "test"]
FieldSide = Literal["user", "item", "context", "candidate", "history"]


class Part(BaseModel):
    """A part of what a folder says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Field(Part):
    """One encoded column.

    `categorical` holds codes of `vocabulary`, `multi_valued` several codes per row, `dense` a float, `vector` `width`
    floats, which models see as the `projection` numbers that they learn to project them to.
    """

    name: str
    side: FieldSide
    kind: Literal["categorical", "multi_valued", "dense", "vector"]
    vocabulary: str | None = None
    width: int = 1
    projection: int | None = None
    is_id: bool = False
    is_position: bool = False
    is_bucketed: bool = False
    """Quantile buckets of a numeric feature, whose dense form is a field of its own."""
    column: str | None = None
    """The log's own name of the column; the ids under `user_column` and `item_column`."""

    @property
    def has_codes(self) -> bool:
        """Whether it holds codes rather than numbers."""
        return self.kind in ("categorical", "multi_valued")

    @property
    def vocabulary_name(self) -> str:
        """Of the vocabulary that its codes are of."""
        return self.vocabulary or self.name


class Period(Part):
    """The requests of one split: rows [begin, end) of requests/."""

    begin: int
    end: int
    impressions: int
    positives: int
    first_time: int | None
    last_time: int | None


class Manifest(Part):
    """What a dataset folder holds."""

    format: int = FORMAT
    version: str
    fingerprint: str
    """Of the recipe and the source: equal fingerprints mean equal datasets."""
    extends: str | None = None
    """Of an extended dataset: the fingerprint of the one that it began as."""
    log: str | None = None
    """Of an extended dataset: the fingerprint that its recipe and its log would have if prepared at once."""
    kept: dict[str, Any] | None = None
    """What extending it asks for, told by preparation; None if it cannot be extended."""
    protocol: str
    timezone: str
    negative_sampling_rate: float
    users: int
    """Known users; users/ has a row more, the unseen one."""
    items: int
    """Known items; items/ has a row more, the unseen one."""
    events: int
    requests: int
    candidates: int
    splits: dict[Split, Period]
    fields: list[Field]
    vocabularies: dict[str, int]
    """Number of codes of each vocabulary, padding left out: unseen, missing and the values."""
    numeric: dict[str, dict[str, Any]] = {}
    """How each numeric feature was transformed (fitted on the training period)."""
    vectors: dict[str, dict[str, Any]] = {}
    """How each vector was standardised (fitted on the training period)."""
    history_length: int
    has_repeats: bool
    relative: bool = False
    """Whether models see candidates' places in their lists, see `inputs/relative.py`."""
    predefined_scenarios: list[str] | None = None
    """Names of the predefined scenarios, by code."""
    true_scenarios: int | None = None
    user_column: str
    item_column: str
    event_columns: dict[str, LogTable] | None = None
    """Where what is known of an event comes from, by the log's own names; None in datasets of earlier versions."""
    key_columns: dict[str, LogTable] | None = None
    """Where a candidate's repeat key comes from, by the log's own names; None in datasets of earlier versions."""
    value_types: dict[str, ValueType] = {}
    """What each column of categories, of ids and of repeat keys holds, by the log's own names; text, if left out."""
    missing_texts: list[str] = []
    """Texts that the log writes where there is no value, besides those that never are one."""
    time_layouts: dict[LogTable, str] = {}
    """How times of impressions and events are laid out, where their values told it: `%m/%d/%Y` for 12/31/2024."""
    checksums: dict[str, str]
    """SHA-256 of each file, by path inside the folder."""


def embedding_offsets(vocabularies: Mapping[str, int]) -> dict[str, int]:
    """Row of the one embedding table before each vocabulary's first code, by their sizes; row 0 is padding."""
    offsets, start = {}, 0
    for name, size in vocabularies.items():
        offsets[name] = start
        start += size
    return offsets


def table_rows(codes: NDArray[Any], offset: NDArray[Any] | int) -> NDArray[np.int64]:
    """Rows of the one embedding table, by the offset of the codes' vocabulary; padding stays 0."""
    codes = np.asarray(codes, dtype=np.int64)
    return np.where(codes > PADDING, codes + offset, 0)


def codes_of(rows: NDArray[Any], offset: NDArray[Any] | int) -> NDArray[np.int64]:
    """The codes that `table_rows` gave these rows."""
    return np.where(rows > 0, rows - offset, PADDING)


def holds_dataset(folder: Path) -> bool:
    """Whether there is a dataset in the folder, of whatever format."""
    return (folder / MANIFEST).is_file()


def checksums_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in the folder but the manifest and the list of runs, by path."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = sorted(path for path in paths if path not in (MANIFEST, RUNS))
    with ThreadPoolExecutor(min(CHECKED_AT_ONCE, os.cpu_count() or 1)) as threads:
        return dict(zip(files, threads.map(checksum, (folder / name for name in files)), strict=True))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """What makes the folder a dataset, written last."""
    content = manifest.model_dump(mode="json")
    content |= {CHECKSUM: _checksum_of(content)}
    write_text(folder / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    mark_as_checked(folder, manifest.checksums)


def mark_as_checked(folder: Path, files: Iterable[str]) -> None:
    """Give these files and the manifest one time of change, seconds ago: whatever is written later bears another one.

    Of a folder that is copied with its times, or moved, that stays true. Where times cannot be set, nothing is marked.
    """
    moment = int(time.time()) - 2
    with suppress(OSError):
        for name in (*files, MANIFEST):
            os.utime(folder / name, (moment, moment))


def changed_since_checked(folder: Path, files: Iterable[str]) -> list[str]:
    """Those of the files that do not bear the manifest's time of change."""
    marked = (folder / MANIFEST).stat().st_mtime_ns
    return [name for name in files if (folder / name).stat().st_mtime_ns != marked]


def _checksum_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """What the folder says of itself.

    Raises:
        DatasetError: if it says nothing, is of another format, or lacks a file.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DatasetError(f"{folder} holds no prepared dataset (no {MANIFEST}): run `musenet prepare` first")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise DatasetError(f"{path} is of format {found}, this version reads {FORMAT}: prepare the dataset again")
        own = content.pop(CHECKSUM, None)  # datasets of earlier versions have none
        if own is not None and own != _checksum_of(content):
            raise DatasetError(f"{path} was changed after preparation: prepare the dataset again")
        manifest = Manifest.model_validate(content)
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} is damaged ({str(error).splitlines()[0]}): prepare the dataset again") from error
    for name in manifest.checksums:
        if not (folder / name).is_file():
            raise DatasetError(f"{folder / name} is missing: prepare the dataset again")
    return manifest


def note_run(dataset: Path, run: Path) -> None:
    """Remember that a run depends on a dataset; one that cannot be written to remembers nothing."""
    place = str(run.resolve())
    with suppress(OSError):
        if place not in _noted(dataset):
            with (dataset / RUNS).open("a", encoding="utf-8") as file:
                file.write(f"{place}\n")


def carry_over(old: Path, new: Path) -> None:
    """Let the folder that takes a dataset's place know the runs that are noted there: each says of which one it is."""
    if (old / RUNS).is_file():
        shutil.copyfile(old / RUNS, new / RUNS)


def orphans_of_replacing(folder: Path, fingerprint: str, *, asked: bool, how: str) -> list[Path]:
    """The runs that lose their dataset when the one in the folder gives way to that of this fingerprint.

    Args:
        folder: of the dataset, if there is one.
        fingerprint: of the one that is to stand there; replacing the same one orphans nothing.
        asked: whether the dataset may be replaced at all.
        how: to ask for it, for the message.

    Raises:
        DatasetError: if another dataset is there, and it was not asked to replace it.
    """
    if not holds_dataset(folder):
        return []
    before = ""
    with suppress(OSError, ValueError, TypeError, KeyError):
        before = str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["fingerprint"])
    if before == fingerprint:
        return []
    runs = [Path(place) for place in _noted(folder) if _is_of(Path(place), before)]
    if not asked:
        raise DatasetError(
            f"{folder} holds the dataset of another configuration, log or version of musenet, on which "
            f"{listed(runs) or 'no run that is known'} depends: name another folder, or {how}"
        )
    return runs


def listed(runs: list[Path]) -> str:
    """The first of them in words; nothing for none."""
    more = f" and {len(runs) - RUNS_NAMED} more" if len(runs) > RUNS_NAMED else ""
    return ", ".join(map(str, runs[:RUNS_NAMED])) + more


def _noted(dataset: Path) -> list[str]:
    file = dataset / RUNS
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def _is_of(run: Path, fingerprint: str) -> bool:
    """Whether there still is such a run, and of this dataset: it says so itself."""
    with suppress(OSError, UnicodeDecodeError):
        return bool(fingerprint) and fingerprint in (run / "run.json").read_text(encoding="utf-8")
    return False
