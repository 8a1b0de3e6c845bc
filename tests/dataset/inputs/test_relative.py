"""Places in the list against scipy's mid-ranks and plain loops, request by request."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.inputs.relative import Relative, relative_features
from musenet.dataset.inputs.repeat_features import repeat_features
from musenet.dataset.manifest import Field
from musenet.evaluation.importance import groups_of, permute
from planted import REQUESTS, write_planted

SIZES = [1, 4, 1, 7, 2, 30]


def of_one_list(numbers: np.ndarray, count: np.ndarray, recency: np.ndarray) -> np.ndarray:
    """What one list says, candidate by candidate."""
    length = len(numbers)

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.full(1, 0.5) if length == 1 else (rankdata(values) - 1) / (length - 1)

    log_count = np.log1p(count)
    touched = ~np.isnan(recency)
    seconds = np.where(touched, recency, np.inf)
    closeness = -np.log1p(recency) / 2
    rows = []
    for n in range(length):
        row = []
        for column in numbers.T:
            row += [ranks(column)[n], column[n] - column.mean()]
        row += [ranks(log_count)[n], log_count[n] - log_count.mean()]
        row += [ranks(-seconds)[n], closeness[n] - np.mean(closeness[touched]) if touched[n] else 0]
        row += [float(touched[n] and recency[n] == np.nanmin(recency)), np.log1p(touched.sum()), np.log(length)]
        rows.append(row)
    return np.array(rows)


def random_lists(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, counts and recencies of candidates, many of them equal."""
    random = np.random.default_rng(seed)
    total = sum(SIZES)
    numbers = np.stack([random.integers(3, size=total), random.normal(size=total)], axis=1).astype(np.float32)
    count = random.integers(3, size=total) * random.integers(2, size=total)
    recency = np.where(count > 0, random.choice([0, 4, 5, 90, 1e6], size=total), np.nan).astype(np.float32)
    return numbers, count, recency


@pytest.mark.parametrize("seed", range(8))
def test_places_are_those_of_each_list_for_itself(seed: int):
    numbers, count, recency = random_lists(seed)
    offset = np.cumsum([0, *SIZES])
    found = relative_features(numbers, repeat_features(count > 0, count, recency), offset)
    parts = [slice(begin, end) for begin, end in pairwise(offset)]
    expected = np.concatenate([of_one_list(numbers[p].astype(float), count[p], recency[p]) for p in parts])
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_lists_places_do_not_depend_on_its_neighbours_to_the_bit():
    numbers, count, recency = random_lists(3)
    repeats = repeat_features(count > 0, count, recency)
    offset = np.cumsum([0, *SIZES])
    together = relative_features(numbers, repeats, offset)
    for begin, end in pairwise(offset):
        alone = relative_features(numbers[begin:end], repeats[begin:end], np.array([0, end - begin]))
        np.testing.assert_array_equal(alone, together[begin:end])


def test_candidates_in_another_order_have_the_same_places():
    numbers, count, recency = (values[-SIZES[-1] :] for values in random_lists(4))
    repeats, offset = repeat_features(count > 0, count, recency), np.array([0, SIZES[-1]])
    order = np.random.default_rng(0).permutation(SIZES[-1])
    found = relative_features(numbers[order], repeats[order], offset)
    np.testing.assert_allclose(found, relative_features(numbers, repeats, offset)[order], atol=1e-6)


def test_no_requests_and_no_numbers_have_places():
    none = np.zeros((0, 2), dtype=np.float32)
    assert relative_features(none, np.zeros((0, 3), dtype=np.float32), np.array([0])).shape == (0, 11)
    lengths = relative_features(np.zeros((3, 0), dtype=np.float32), None, np.array([0, 1, 3]))
    np.testing.assert_allclose(lengths, np.log([[1], [2], [2]]), atol=1e-7)


def test_flags_of_missing_numbers_are_not_compared():
    names = ["price", "price.missing", "fuel.missing"]
    fields = [Field(name=name, side="candidate", kind="dense") for name in names]
    told = [field.name for field in Relative(fields, {"price": {}}, has_repeats=False).fields]
    assert [name.split(",")[0] for name in told[::2]] == ["price", "fuel.missing", "length of the list"]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    dataset = write_planted(tmp_path / "dataset")
    dataset.manifest = dataset.manifest.model_copy(update={"relative": True})
    return dataset


def test_a_batch_holds_places_behind_its_own_numbers(dataset: Dataset):
    requests = np.random.default_rng(5).permutation(sum(REQUESTS.values()))[:50]
    batch = BatchBuilder(dataset).build(requests)
    schema = schema_of(dataset)
    dense = batch.candidate_dense.numpy()
    assert dense.shape[1] == len(schema.candidate_dense) == 2 + 2 * 4 + 3
    candidates, offset = dataset.candidates_of(requests)
    shown = dataset.candidates
    assert shown.repeat_count is not None
    assert shown.repeat_recency is not None
    for begin, end in pairwise(offset):
        rows = candidates[begin:end]
        quality = dataset.column(dataset.field("item", "quality"))[shown.item[rows]]
        price = dataset.column(dataset.field("candidate", "price"))[rows]
        numbers = np.stack([quality, price], axis=1)
        np.testing.assert_array_equal(dense[begin:end, :2], numbers)
        expected = of_one_list(numbers.astype(float), shown.repeat_count[rows], shown.repeat_recency[rows])
        np.testing.assert_allclose(dense[begin:end, 2:], expected, atol=2e-6)


def test_the_parts_of_a_batch_hold_what_the_whole_does(dataset: Dataset):
    builder, requests = BatchBuilder(dataset), np.arange(30)
    parts = [builder.build(requests, part=(which, 3)).candidate_dense.numpy() for which in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), builder.build(requests).candidate_dense.numpy())


def test_places_are_one_group_of_what_importance_permutes(dataset: Dataset):
    schema = schema_of(dataset)
    groups = {group.name: group for group in groups_of(schema)}
    place = groups["place in the list"]
    assert place.dense == tuple(range(2, len(schema.candidate_dense)))
    assert groups["price"].dense == (1,)
    batch = BatchBuilder(dataset).build(np.arange(40))
    changed = permute(batch, place, np.random.default_rng(0))
    np.testing.assert_array_equal(changed.candidate_dense[:, :2], batch.candidate_dense[:, :2])
    assert sorted(changed.candidate_dense[:, 2:].tolist()) == sorted(batch.candidate_dense[:, 2:].tolist())
