"""A prepared dataset as plain arrays, so that another implementation trains on exactly what ours sees.

    python benchmarks/accuracy/peer_export.py datasets/hotels-accuracy runs/hotels-accuracy/export

The folder gets `schema.json` and, for each split, `<split>.npz` (N impressions, R requests, F fields, L history):

    codes     (N, F) code of each field in its own vocabulary, in the order of the schema; 0 is padding
    dense     (N, ·) numeric fields, then the three repeat features
    request   (N) the impression's row of history and length, ascending
    history   (R, columns, L) codes of the events before the request, oldest first, then zeros
    length    (R) how many events there are
    scenario  (N) the request's predefined scenario; that of most training requests where it has none; zeros without any
    label     (N) 0 or 1

Codes and numbers are those of the batches that our models are trained on and scored with: positions are fixed in
validation and test.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.batch import Batch, Schema, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.inputs.repeat_features import REPEAT_FEATURES
from musenet.dataset.manifest import Field, Split, codes_of
from musenet.errors import ConfigError
from musenet.files import write_json

Arrays = dict[str, NDArray[Any]]

SPLITS: tuple[Split, ...] = get_args(Split)
REQUESTS_AT_ONCE = 5000


def export(dataset: Dataset, folder: Path) -> None:
    """Write the dataset's arrays, unless those of the same dataset are there.

    Raises:
        ConfigError: for multi-valued fields, which a peer's column of codes cannot hold.
    """
    description = describe(dataset)
    file = folder / "schema.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) == description:
        return
    file.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        np.savez(folder / f"{split}.npz", **arrays_of(dataset, split))  # type: ignore[arg-type]
    write_json(file, description)


def describe(dataset: Dataset) -> dict[str, Any]:
    """The columns of the arrays, and how many codes each vocabulary has, padding included."""
    schema = schema_of(dataset)
    fields = (*schema.request_fields, *schema.candidate_fields)
    several = [field.name for field in fields if field.kind == "multi_valued"]
    if several:
        raise ConfigError(f"{', '.join(several)}: multi-valued fields cannot be exported; leave them out of `features`")
    dense = [field.name for field in (*schema.request_dense, *schema.candidate_dense)]
    return {
        "dataset": dataset.manifest.fingerprint,
        "fields": [
            {"name": field.name, "side": field.side, "vocabulary": field.vocabulary_name, "is_id": field.is_id}
            for field in fields
        ],
        "dense": dense + [f"repeat_{place}" for place in range(REPEAT_FEATURES if schema.has_repeats else 0)],
        "history": [{"name": field.name, "vocabulary": field.vocabulary_name} for field in schema.history_fields],
        "history_length": dataset.manifest.history_length,
        "codes": {name: size + 1 for name, size in dataset.manifest.vocabularies.items()},
        "scenarios": len(schema.predefined_scenarios or ()),
    }


def arrays_of(dataset: Dataset, split: Split) -> Arrays:
    """The arrays of one split; see the module."""
    builder = BatchBuilder(dataset, fixed_positions=split != "train")
    usual = _most_frequent_scenario(dataset)
    parts = [_of_batch(batch, dataset, builder.schema, usual) for batch in _batches(builder, dataset, split)]
    before = np.cumsum([0, *(len(part["length"]) for part in parts)])
    for part, requests in zip(parts, before[:-1], strict=True):
        part["request"] += requests
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _batches(builder: BatchBuilder, dataset: Dataset, split: Split) -> Iterator[Batch]:
    period = dataset.manifest.splits[split]
    for begin in range(period.begin, period.end, REQUESTS_AT_ONCE):
        yield builder.build(np.arange(begin, min(begin + REQUESTS_AT_ONCE, period.end)))


def _of_batch(batch: Batch, dataset: Dataset, schema: Schema, usual_scenario: int) -> Arrays:
    of_request = _own_codes(batch, batch.request_codes.numpy(), schema.request_fields, dataset)
    of_candidate = _own_codes(batch, batch.candidate_codes.numpy(), schema.candidate_fields, dataset)
    events = _own_codes(batch, batch.history_codes.numpy(), schema.history_fields, dataset)
    request = batch.request.numpy()
    dense = [batch.request_dense.numpy()[request], batch.candidate_dense.numpy()]
    history, length = _padded(events, batch.history_offset.numpy(), dataset.manifest.history_length)
    scenario = np.zeros(batch.requests, dtype=np.int64)
    if batch.predefined_scenario is not None:
        known = batch.predefined_scenario.numpy()
        scenario = np.where(known >= 0, known, usual_scenario)
    return {
        "codes": np.concatenate([of_request[request], of_candidate], axis=1),
        "dense": np.concatenate([*dense, *([batch.repeat_features.numpy()] if schema.has_repeats else [])], axis=1),
        "request": request.copy(),
        "history": history,
        "length": length,
        "scenario": scenario[request],
        "label": batch.label.numpy().astype(np.int8),
    }


def _own_codes(
    batch: Batch, positions: NDArray[np.int64], fields: tuple[Field, ...], dataset: Dataset
) -> NDArray[np.int32]:
    """(rows, fields) positions in the batch's embedding rows as codes of each field's own vocabulary."""
    rows = batch.rows.numpy()[positions]
    offset = np.array([dataset.embedding_offset[field.vocabulary_name] for field in fields], dtype=np.int64)
    return codes_of(rows, offset).astype(np.int32)


def _padded(
    events: NDArray[np.int32], offset: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(R, columns, length) events, oldest first and zeros behind, and (R) how many there are."""
    counts = np.diff(offset)
    request = np.repeat(np.arange(len(counts)), counts)
    out = np.zeros((len(counts), events.shape[1], length), dtype=np.int32)
    out[request, :, np.arange(len(events)) - offset[request]] = events
    return out, counts.astype(np.int32)


def _most_frequent_scenario(dataset: Dataset) -> int:
    codes, period = dataset.requests.predefined_scenario, dataset.manifest.splits["train"]
    if codes is None:
        return 0
    codes = codes[period.begin : period.end]
    return int(np.bincount(codes[codes >= 0], minlength=1).argmax())


if __name__ == "__main__":
    export(Dataset(Path(sys.argv[1])), Path(sys.argv[2]))
