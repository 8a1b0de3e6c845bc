"""Datasets from arrays of one's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Field
from musenet.dataset.writer import Arrays, write_dataset
from musenet.errors import DatasetError
from places import ROOT

FIELDS = [
    Field(name="city", side="user", kind="categorical", vocabulary="city"),
    Field(name="tags", side="item", kind="multi_valued", vocabulary="tag", width=2),
    Field(name="hour", side="context", kind="dense"),
    Field(name="tag", side="history", kind="categorical", vocabulary="tag"),
]
VOCABULARIES: dict[str, Any] = {"city": ["Bern", "Zürich"], "tag": 5}
FACTS: dict[str, Any] = {"history_length": 2, "user_column": "guest", "item_column": "hotel"}


def arrays() -> Arrays:
    """Two known users of three events and none, three requests, the second of two candidates."""
    return Arrays(
        users={"city": np.array([2, 3, 4], dtype=np.int32)},
        items={"tags": np.array([[2, 0], [3, 5]], dtype=np.int32)},
        events={"offset": np.array([0, 0, 3, 3]), "tag": np.array([3, 4, 5], dtype=np.int32)},
        requests={
            "user": np.array([1, 1, 2], dtype=np.int32),
            "time": np.array([10, 20, 30]),
            "history_end": np.array([1, 3, 3]),
            "candidate_offset": np.array([0, 1, 3, 4]),
            "hour": np.array([0.5, -1.0, 0.0], dtype=np.float32),
        },
        candidates={
            "item": np.array([1, 1, 0, 1], dtype=np.int32),
            "label": np.array([1, 0, 1, 0], dtype=np.int8),
        },
    )


def write(folder: Path, changed: Arrays | None = None, **facts: Any) -> Dataset:
    splits: Any = {"train": (0, 2), "valid": (2, 3), "test": (3, 3)}
    keys: Any = {"users": pa.table({"_user": [None, "anna", "ben"]})}
    return write_dataset(folder, changed or arrays(), FIELDS, splits, VOCABULARIES, keys, **FACTS | facts)


def test_what_was_written_is_read_again(tmp_path: Path):
    dataset, given = write(tmp_path / "own", timezone="Europe/Berlin"), arrays()
    for relation, columns in given.relations():
        for name, column in columns.items():
            own = [one for one in FIELDS if one.name == name and getattr(given, relation).get(name) is column]
            found = dataset.column(own[0]) if own else getattr(getattr(dataset, relation), name)
            np.testing.assert_array_equal(found, column)
            assert found.dtype == column.dtype
    manifest = dataset.manifest
    assert (manifest.users, manifest.items, manifest.events, manifest.requests, manifest.candidates) == (2, 1, 3, 3, 4)
    train, test = manifest.splits["train"], manifest.splits["test"]
    assert (train.impressions, train.positives, train.first_time, train.last_time) == (3, 2, 10, 20)
    assert (test.impressions, test.first_time) == (0, None)
    assert manifest.vocabularies == {"city": 4, "tag": 5}
    assert (manifest.has_repeats, manifest.timezone) == (False, "Europe/Berlin")
    assert dataset.texts("city").to_pylist() == ["Bern", "Zürich"]
    assert dataset.keys("users")["_user"].to_pylist() == [None, "anna", "ben"]
    dataset.verify()


def test_views_tell_of_requests_and_candidates(tmp_path: Path):
    dataset = write(tmp_path / "own")
    requests = np.array([1, 0, 2])
    candidates, offset = dataset.candidates_of(requests)
    assert (candidates.tolist(), offset.tolist()) == ([1, 2, 0, 3], [0, 2, 3, 4])
    assert dataset.sizes_of(requests).tolist() == [2, 1, 1]
    assert dataset.candidates_between(1, 3) == slice(1, 4)
    assert dataset.history_length(requests).tolist() == [3, 1, 0]
    events, begins = dataset.history_of(requests)
    assert (events.tolist(), begins.tolist()) == ([1, 2, 0], [0, 2, 3, 3])
    city, tags = FIELDS[:2]
    assert dataset.values(city, dataset.rows_of("user", requests)).tolist() == [3, 3, 4]
    assert dataset.values(tags, dataset.rows_of("item", requests, candidates)).tolist() == [
        [3, 5],
        [2, 0],
        [3, 5],
        [3, 5],
    ]
    assert dataset.candidates.weight is None
    with pytest.raises(ValueError, match="'item'"):
        dataset.rows_of("item", requests)
    assert BatchBuilder(dataset).build(requests).label.tolist() == [0, 1, 1, 0]


def test_equal_contents_have_equal_fingerprints_and_replace_each_other(tmp_path: Path):
    first = write(tmp_path / "own").manifest.fingerprint
    assert write(tmp_path / "own").manifest.fingerprint == first
    changed = arrays() | Arrays(candidates={"label": np.zeros(4, dtype=np.int8)})
    with pytest.raises(DatasetError, match=r"on which no run that is known depends: .* give replace=True"):
        write(tmp_path / "own", changed)
    assert write(tmp_path / "own", changed, replace=True).manifest.fingerprint != first
    assert write(tmp_path / "own", fingerprint="mine", replace=True).manifest.fingerprint == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "own"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"users": {}}, "users have no columns"),
        ({"items": {"tag": np.zeros((2, 2))}}, "items lack tags"),
        ({"candidates": arrays().candidates | {"lable": np.zeros(4)}}, "candidates have lable, which is no field"),
        ({"candidates": {"item": np.zeros(4, dtype=np.int32)}}, "candidates lack label"),
        ({"requests": arrays().requests | {"hour": np.zeros(2)}}, "requests have columns of different lengths"),
        ({"users": {"city": np.zeros(2, dtype=np.int32)}}, "offset of events has to be 3 numbers from 0 to 3"),
        (
            {"requests": arrays().requests | {"candidate_offset": np.array([0, 1, 3, 5])}},
            "offset of candidates has to be 4 numbers from 0 to 4",
        ),
        (
            {"requests": arrays().requests | {"candidate_offset": np.array([0, 3, 1, 4])}},
            "offset of candidates has to be 4 numbers from 0 to 4, ascending",
        ),
        (
            {"requests": arrays().requests | {"user": np.array([1, -1, 2])}},
            "'user' has to hold rows of the users, 0 to 2",
        ),
        ({"candidates": arrays().candidates | {"item": np.array([1, 2, 0, 1])}}, "rows of the items, 0 to 1"),
        ({"requests": arrays().requests | {"history_end": np.array([1, 4, 3])}}, "'history_end' has to be among"),
        (
            {"users": {"city": np.array([2, 3, 5])}},
            "the user field 'city' holds codes that its vocabulary does not have",
        ),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(changed: dict[str, Any], words: str, tmp_path: Path):
    with pytest.raises(DatasetError, match=words):
        write(tmp_path / "own", replace(arrays(), **changed))
    assert list(tmp_path.iterdir()) == []


def test_requests_without_codes_are_requests(tmp_path: Path):
    fields = [Field(name="age", side="user", kind="dense"), *FIELDS[1:3]]
    given = replace(
        arrays(), users={"age": np.zeros(3, dtype=np.float32)}, events={"offset": arrays().events["offset"]}
    )
    given = replace(given, events=given.events | {"time": np.arange(3)})
    splits: Any = {"train": (0, 2), "valid": (2, 3), "test": (3, 3)}
    batch = BatchBuilder(write_dataset(tmp_path / "own", given, fields, splits, {"tag": 5}, **FACTS)).build(
        np.arange(3)
    )
    assert (batch.requests, batch.candidates) == (3, 4)
    assert (batch.request_codes.shape, batch.history_codes.shape) == ((3, 0), (int(batch.history_offset[-1]), 0))


@pytest.mark.parametrize("test", [(3, 4), (3, -1)])
def test_splits_are_requests_that_there_are(test: tuple[int, int], tmp_path: Path):
    splits: Any = {"train": (0, 2), "valid": (2, 3), "test": test}
    with pytest.raises(DatasetError, match=r"the split 'test' has to be requests from 0 to 3, not 3 to"):
        write_dataset(tmp_path / "own", arrays(), FIELDS, splits, VOCABULARIES, {}, **FACTS)


def test_facts_that_a_manifest_does_not_know_are_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match="timezon"):
        write(tmp_path / "own", timezon="UTC")
    assert list(tmp_path.iterdir()) == []


def test_the_documented_arrays_make_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "your-own-log.md").read_text(encoding="utf-8")
    exec(page.split("## Arrays instead of a log")[1].split("```python\n")[1].split("```")[0], {})
    dataset = Dataset(Path("datasets/small"))
    batch = BatchBuilder(dataset).build(np.arange(3))
    assert (batch.requests, batch.candidates, batch.history_offset.tolist()) == (3, 5, [0, 1, 2, 4])
