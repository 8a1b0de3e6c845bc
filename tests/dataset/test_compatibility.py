"""Which datasets a model can be asked about, other than its own."""

from pathlib import Path
from typing import Any

import pytest

from musenet.dataset.compatibility import check_readable
from musenet.dataset.dataset import Dataset
from musenet.errors import DatasetError
from planted import VOCABULARIES, write_planted

CHECKSUMS = {"vocabularies/brand.parquet": "b1", "vocabularies/tag.parquet": "t1"}
NUMERIC = {
    "price": {"numeric": "log", "mean": 4.0, "knots": [1.0, 2.0]},
    "hours": {"numeric": "standardise", "mean": 1},
}


def dataset(folder: Path, **changes: Any) -> Dataset:
    """The planted dataset, with contents of vocabularies and with scales, changed as told."""
    written = write_planted(folder)
    content = {"checksums": written.manifest.checksums | CHECKSUMS, "numeric": NUMERIC} | changes
    written.manifest = written.manifest.model_copy(update=content)
    return written


@pytest.fixture
def trained_on(tmp_path: Path) -> Dataset:
    return dataset(tmp_path / "own")


def test_a_dataset_of_other_impressions_is_readable(trained_on: Dataset, tmp_path: Path) -> None:
    nearly = NUMERIC | {"price": NUMERIC["price"] | {"mean": 4.0 + 1e-15}}
    changes: dict[str, Any] = {"fingerprint": "other", "users": 99, "items": 99, "events": 9, "timezone": "Asia/Tokyo"}
    check_readable(trained_on, dataset(tmp_path / "other", numeric=nearly, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checksums": CHECKSUMS | {"vocabularies/brand.parquet": "b2"}}, "vocabularies brand"),
        ({"vocabularies": VOCABULARIES | {"tag": 11}}, "vocabularies tag"),
        ({"vocabularies": dict(reversed(VOCABULARIES.items()))}, "vocabularies"),
        ({"numeric": NUMERIC | {"price": NUMERIC["price"] | {"mean": 4.1}}}, "scales of price"),
        ({"numeric": NUMERIC | {"price": NUMERIC["price"] | {"knots": [1.0]}}}, "scales of price"),
        ({"numeric": {"price": NUMERIC["price"]}}, "scales of hours"),
        ({"history_length": 7}, "length of histories"),
        ({"has_repeats": False}, "repeats"),
        ({"predefined_scenarios": ["leisure", "work"]}, "predefined scenarios"),
        ({"predefined_scenarios": None}, "predefined scenarios"),
        ({"true_scenarios": None}, "number of true scenarios"),
        ({"relative": True}, "places in the list"),
        ({"negative_sampling_rate": 0.1}, "share of negatives kept"),
        ({"history_length": 7, "has_repeats": False}, "length of histories; repeats"),
    ],
)
def test_what_a_model_could_not_read_is_refused_by_name(
    trained_on: Dataset, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    other = dataset(tmp_path / "other", **changes)
    with pytest.raises(DatasetError) as refusal:
        check_readable(trained_on, other)
    assert str(refusal.value) == (
        f"{other.folder} cannot be scored by runs of {trained_on.folder}, it differs in {words}: prepare it by the "
        "runs' own configuration, from a log that is the same up to the test period"
    )


def test_other_fields_are_refused_by_name(trained_on: Dataset, tmp_path: Path) -> None:
    fields = trained_on.manifest.fields
    for changed, words in (
        (fields[1:], "fields user_id"),
        (fields[::-1], "fields"),
        ([field.model_copy(update={"name": f"{field.name}_2"}) for field in fields], "fields age, age_2, brand and "),
        ([field.model_copy(update={"width": 5}) if field.name == "tag" else field for field in fields], "fields tag"),
    ):
        with pytest.raises(DatasetError, match=rf"differs in {words}"):
            check_readable(trained_on, dataset(tmp_path / "other", fields=changed))
