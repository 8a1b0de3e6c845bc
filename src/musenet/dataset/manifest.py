"""What a dataset folder says of itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

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


def embedding_offsets(vocabularies: Mapping[str, int]) -> dict[str, int]:
    """Row of the one embedding table before each vocabulary's first code, by their sizes; row 0 is padding."""
    offsets, start = {}, 0
    for name, size in vocabularies.items():
        offsets[name] = start
        start += size
    return offsets


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
