"""The prepared dataset on disk: plain `.npy` columns and a manifest.

    manifest.json                 schema, vocabularies' sizes, counts, checksums, format version
    users/<field>.npy             (U,) one row per user; row 0 is the unseen user
    items/<field>.npy             (I,) one row per item; row 0 is the unseen item
    events/<field>.npy            (E,) sorted by user, time, then every encoded column; events/time.npy
    events/offset.npy             (U + 1,) where each user's events begin
    requests/<field>.npy          (R,) in order of split and time; user, time, history_end, candidate_offset (R + 1,),
                                  repeat_fraction, maybe predefined_scenario, true_scenario
    candidates/<field>.npy        (N,) item, label, maybe weight, true_probability,
                                  repeat_indicator, repeat_count, repeat_recency (seconds; NaN if never or not known)
    keys/{users,items,requests}.parquet   the log's own ids, row by row; with the items what events and repeat keys
                                  look up of them
    vocabularies/<name>.parquet   value of each code from 3 on, as text, with its count in training

Codes of categorical fields: 0 padding, 1 unseen, 2 missing, 3 and up the values by count, then value. A multi-valued
field is (rows, width), padded with 0. Dense fields are float32, standardised on the training period, 0 where missing.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from musenet.errors import DatasetError

FORMAT = 1
PADDING, UNSEEN, MISSING, FIRST_VALUE = 0, 1, 2, 3

Split = Literal["train", "valid", "test"]
FieldSide = Literal["user", "item", "context", "candidate", "history"]


class Part(BaseModel):
    """A part of what a folder says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Field(Part):
    """One encoded column.

    `categorical` holds codes of `vocabulary`, `multi_valued` several codes per row, `dense` a float.
    """

    name: str
    side: FieldSide
    kind: Literal["categorical", "multi_valued", "dense"]
    vocabulary: str | None = None
    width: int = 1
    is_id: bool = False
    is_position: bool = False
    is_bucketed: bool = False
    """Quantile buckets of a numeric feature, whose dense form is a field of its own."""
    column: str | None = None
    """The log's own name of the column; the ids under `user_column` and `item_column`."""


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
    history_length: int
    has_repeats: bool
    predefined_scenarios: list[str] | None = None
    """Names of the predefined scenarios, by code."""
    true_scenarios: int | None = None
    user_column: str
    item_column: str
    event_columns: dict[str, Literal["impressions", "events", "users", "items"]] | None = None
    """Where what is known of an event comes from, by the log's own names; None in datasets of earlier versions."""
    key_columns: dict[str, Literal["impressions", "events", "users", "items"]] | None = None
    """Where a candidate's repeat key comes from, by the log's own names; None in datasets of earlier versions."""
    checksums: dict[str, str]
    """SHA-256 of each file, by path inside the folder."""


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def embedding_offsets(vocabularies: Mapping[str, int]) -> dict[str, int]:
    """Row of the one embedding table before each vocabulary's first code, by their sizes; row 0 is padding."""
    offsets, start = {}, 0
    for name, size in vocabularies.items():
        offsets[name] = start
        start += size
    return offsets


class Dataset:
    """An opened dataset; columns are memory-mapped when first used.

    Args:
        folder: where `prepare` wrote it.

    Raises:
        DatasetError: if the folder is missing, damaged, or of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        self._columns: dict[str, np.ndarray] = {}

    def column(self, path: str) -> np.ndarray:
        """A column by its path without ending, such as `candidates/label`."""
        if path not in self._columns:
            file = self.folder / f"{path}.npy"
            try:
                self._columns[path] = np.load(file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DatasetError(f"{file} cannot be read ({error}): prepare the dataset again") from error
        return self._columns[path]

    def has(self, path: str) -> bool:
        """Whether the dataset holds this column."""
        return f"{path}.npy" in self.manifest.checksums

    def fields(self, *sides: FieldSide) -> Iterator[Field]:
        """The fields of these sides, in the manifest's order."""
        return (field for field in self.manifest.fields if field.side in sides)

    @cached_property
    def embedding_offset(self) -> Mapping[str, int]:
        """Row of the one embedding table before each vocabulary's first code; row 0 is padding."""
        return embedding_offsets(self.manifest.vocabularies)

    @property
    def embedding_rows(self) -> int:
        """Rows of the one embedding table, padding included."""
        return 1 + sum(self.manifest.vocabularies.values())

    def verify(self) -> None:
        """Compare every file with its checksum; raises `DatasetError` at the first that differs."""
        for name, expected in self.manifest.checksums.items():
            file = self.folder / name
            if not file.is_file() or checksum(file) != expected:
                raise DatasetError(f"{file} is missing or was changed after preparation: prepare the dataset again")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    if not path.is_file():
        raise DatasetError(f"{folder} holds no prepared dataset (no manifest.json): run `musenet prepare` first")
    try:
        content = json.loads(path.read_text())
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise DatasetError(f"{path} is of format {found}, this version reads {FORMAT}: prepare the dataset again")
        manifest = Manifest.model_validate(content)
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} is damaged ({str(error).splitlines()[0]}): prepare the dataset again") from error
    for name in manifest.checksums:
        if not (folder / name).is_file():
            raise DatasetError(f"{folder / name} is missing: prepare the dataset again")
    return manifest
