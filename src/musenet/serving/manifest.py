"""What an export folder holds, and whether it is whole.

    manifest.json           what follows, every file with its checksum
    request.onnx            what depends on the request alone; missing if that is nothing
    candidates.onnx         the rest, for all candidates of one request
    *_without_repeats.onnx  the same two without the repeat branch, for requests in which nothing repeats; missing
                            if the model has none
    explanation.onnx        what else the model says of the request and its candidates; missing if that is nothing
    requests.onnx           the whole of it for many requests at once
    reference.json          what training and validation looked like; missing if there was no validation
    scenarios.json          what the report says of the scenarios; missing if there is nothing to say
    embeddings.npy          (rows, D) the one embedding table; row 0 is padding
    users/ and items/       codes.npy (rows of the embedding table), dense.npy, row by row; row 0 is the unseen one
                            ids.npy, ids.numbers.npy: the log's own ids, sorted, and each one's row; ids.table.npy,
                            where ids are whole numbers close to each other: the row of 0, of 1, …
    items/attributes.arrow  the items' columns that events look up, row by row
    items/keys.arrow        text of the items' columns that repeat keys look up, row by row
    items/keys.npy          a checksum of each row of these texts
    projections/            <side>.<name>.npy (width, projection) by which each vector is projected
    vocabularies/           <name>.npy, <name>.numbers.npy, <name>.table.npy: the values and their codes, as of ids

Nothing here is a pickle.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from musenet.calibration import Calibration
from musenet.config.drift import DriftOptions
from musenet.dataset.manifest import Field, FieldSide, Part, embedding_offsets
from musenet.dataset.numeric import NumericTransform, VectorScale
from musenet.dataset.texts import ValueType
from musenet.errors import ExportError
from musenet.files import checksum
from musenet.recipe.history import HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.values import ValueForms
from musenet.sources.files.options import TimeColumn

FORMAT = 3
MANIFEST = "manifest.json"
SCENARIOS = "scenarios.json"
PROJECTIONS = "projections"
"""The folder of what each vector is projected by."""
EXPORT_AGAIN = "export the run again"


class LogColumns(Part):
    """What the log calls the columns that make its rows impressions and events, and how it writes their times."""

    time: TimeColumn = TimeColumn(column="time")
    request: str | None = "request"
    """None where a request is what one user was shown at one time."""
    longest: float = 3600.0
    """Seconds that a request lasts at most."""
    event_user: str | None = None
    """The user's own column, if None."""
    event_item: str | None = None
    """The item's own column, if None."""
    event_time: TimeColumn | None = None
    """As of impressions, if None."""
    kind: str | None = "kind"
    label: str | None = None
    """Of the impressions, where the events are those of them that are positive."""
    shown_label: str | None = None
    """Of the impressions, whatever the events are; None where the configuration names no files."""
    positives: list[str] | None = None
    """Its values that are positive; 1, if None."""
    positive_kinds: list[str] | None = None
    """The label's values that are positive; 1, if None."""


class ExportManifest(Part):
    """All that serving knows of a model and its data beside the arrays."""

    format: int = FORMAT
    name: str
    """Of the experiment."""
    model_version: str
    """The experiment's name and the first digits of a checksum of the weights, and of what recalibrates them if they
    are."""
    model: dict[str, Any]
    """The model's options."""
    scenarios: int | None
    """How many the model tells apart; None for a model without."""
    scenario_names: list[str] = []
    """What they are called; empty for a model without, and in exports of versions that gave no names."""
    protocol: str
    timezone: str
    negative_sampling_rate: float
    calibration: Calibration | None = None
    """What the model's logits are recalibrated by, before they are corrected for negatives."""
    user_column: str
    item_column: str
    log: LogColumns = LogColumns()
    users: int
    items: int
    fields: list[Field]
    vocabularies: dict[str, int]
    """Number of codes of each vocabulary, in the order in which they stand in the embedding table."""
    numeric: dict[str, NumericTransform]
    vectors: dict[str, VectorScale] = {}
    """How each vector is standardised before it is projected."""
    relative: bool = False
    """Whether the model sees candidates' places in their lists."""
    separators: dict[str, str]
    """Of the multi-valued columns, between the values of a text."""
    history: HistoryOptions
    repeat: RepeatOptions | None
    event_columns: dict[str, Literal["events", "items"]]
    """Where what is known of an event comes from: the event itself, or its item."""
    key_columns: dict[str, Literal["request", "items"]]
    """Where a candidate's repeat key comes from: the request, or the item."""
    predefined_columns: list[str]
    """Columns whose combination names a predefined scenario."""
    predefined_scenarios: list[str] | None
    """Names of the predefined scenarios, by code."""
    value_types: dict[str, ValueType] = {}
    """What the columns hold; the text form of a value depends on it."""
    missing_texts: list[str] = []
    """Further texts that mean that there is no value."""
    drift: DriftOptions = DriftOptions()
    """From where on `drift` says that something moved."""
    versions: dict[str, Any]
    checksums: dict[str, str]
    """SHA-256 of each file, by path inside the folder."""

    @cached_property
    def embedding_offset(self) -> Mapping[str, int]:
        """Row of the embedding table before each vocabulary's first code."""
        return embedding_offsets(self.vocabularies)

    @property
    def forms(self) -> ValueForms:
        """What the values of a request are."""
        return ValueForms(self.value_types, frozenset(self.missing_texts))

    def fields_of(self, *sides: FieldSide) -> list[Field]:
        """The fields of these sides, in order."""
        return [field for field in self.fields if field.side in sides]


def read_export(folder: Path) -> ExportManifest:
    """The manifest of an export, every file of which is compared with its checksum.

    Raises:
        ExportError: if the folder is missing, damaged, incomplete, changed, or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = f"holds no export (no {MANIFEST})" if folder.is_dir() else "does not exist"
        raise ExportError(f"{folder} {what}: give the folder that `musenet export` wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("format") if isinstance(content, dict) else None
        if isinstance(found, int) and found != FORMAT:
            what_to_do = f"install a newer musenet, or {EXPORT_AGAIN}" if found > FORMAT else EXPORT_AGAIN
            raise ExportError(f"{path} is of format {found}, this version reads {FORMAT}: {what_to_do}")
        manifest = ExportManifest.model_validate(content)
    except (OSError, ValidationError, ValueError) as error:
        raise ExportError(f"{path} is damaged ({str(error).splitlines()[0]}): {EXPORT_AGAIN}") from error
    for name, expected in manifest.checksums.items():
        file = folder / name
        if not file.is_file():
            raise ExportError(f"{file} is missing: {EXPORT_AGAIN}")
        if checksum(file) != expected:
            raise ExportError(f"{file} was changed after the export: {EXPORT_AGAIN}")
    return manifest
