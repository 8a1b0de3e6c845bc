"""Vocabularies, quantiles and sampled negatives, on their own."""

import ibis
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from musenet.dataset.texts import text_of
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.preparation.encoding import vocabulary
from musenet.preparation.encoding.numeric_fit import fit_numeric
from musenet.preparation.encoding.vocabulary import TABLE_SIZE, Occurrences, Vocabulary, fit_vocabulary
from musenet.preparation.relations.negatives import NegativeSampler
from musenet.recipe.features import NumericOptions


def fit(frame: pl.DataFrame, min_count: int = 1, weight: str | None = None) -> Vocabulary:
    engine = Engine(ibis.duckdb.connect())
    table = engine.store("values", ibis.memtable(frame.to_arrow()))
    columns = [Occurrences(table, name, weight) for name in frame.columns if name != weight]
    return fit_vocabulary(engine, "values", columns, min_count)


def test_values_are_ordered_by_count_then_value() -> None:
    found = fit(pl.DataFrame({"v": [10, 9, 9, 10, 2, 7, 7, 7, None]}))
    assert found.values.to_pylist() == [7, 9, 10, 2]
    assert found.counts.tolist() == [3, 2, 2, 1]
    assert fit(pl.DataFrame({"v": ["10", "9", "9", "10"]})).values.to_pylist() == ["10", "9"]


def test_rare_values_and_unknown_ones_share_the_unseen_row() -> None:
    found = fit(pl.DataFrame({"v": ["a", "a", "b", None]}), min_count=2)
    assert found.encode(pa.array(["a", "b", "c", None])).tolist() == [3, 1, 1, 2]
    assert found.size == 3


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float64()])
def test_more_values_than_a_chunk_has_rows_are_found_alike(kind: pa.DataType, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    numbers = random.permutation(3 * TABLE_SIZE // 1000)[:20_000] * 1000 + 1
    known = Vocabulary("v", pa.array(numbers[:15_000]).cast(kind), np.ones(15_000, dtype=np.int64))
    column = pa.array(numbers[random.integers(20_000, size=50_000)], mask=random.random(50_000) < 0.1).cast(kind)
    few = known.encode(column)
    monkeypatch.setattr(vocabulary, "ROWS_PER_CHUNK", 10_000)
    np.testing.assert_array_equal(known.encode(column), few)
    assert 0 < (few == 1).sum() < (few > 2).sum()


def test_an_unseen_value_with_the_hash_of_a_known_one_stays_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "ROWS_PER_CHUNK", 1)
    monkeypatch.setattr(
        vocabulary, "_hashed", lambda values, _: np.asarray([int(t or 0) % 7 for t in values.to_pylist()])
    )
    found = Vocabulary("v", pa.array(["3", "5", "1"]), np.ones(3, dtype=np.int64))
    assert found.encode(pa.array(["1", "8", "5", None, "6"])).tolist() == [5, 1, 4, 2, 1]


def test_columns_of_one_name_share_counts() -> None:
    found = fit(
        pl.DataFrame({"city": ["x", "y", None], "destination": ["y", "y", "z"], "weight": [5, 1, 1]}), weight="weight"
    )
    assert dict(zip(found.values.to_pylist(), found.counts.tolist(), strict=True)) == {"x": 5, "y": 7, "z": 1}


def test_text_and_numbers_do_not_mix() -> None:
    with pytest.raises(DataError, match="vocabulary 'values' is of different types"):
        fit(pl.DataFrame({"a": ["x"], "b": [1]}))


def test_whole_numbers_have_one_text() -> None:
    assert text_of(pa.array([3.0, -2.5, None])).to_pylist() == ["3", "-2.5", None]
    assert text_of(pa.array([3, 10**15])).to_pylist() == ["3", "1000000000000000"]
    assert text_of(pa.array([True, False])).to_pylist() == ["true", "false"]


def test_lists_keep_the_first_distinct_values() -> None:
    found = fit(pl.DataFrame({"v": [["a", "b"], ["a"], ["a", "a"]]}))
    assert found.counts.tolist() == [3, 1]
    encoded = found.encode_lists(pa.array([["b", "b", "a", "z"], [], None, ["z", None, "a"]]), 3)
    assert encoded.tolist() == [[4, 3, 1], [2, 0, 0], [2, 0, 0], [1, 3, 0]]
    assert found.encode_lists(pa.array([["b", "a"]]), 1).tolist() == [[4]]


numbers = st.lists(
    st.one_of(st.floats(-1e9, 1e9), st.just(float("nan")), st.just(float("inf"))), min_size=1, max_size=60
)


@settings(deadline=None)
@given(numbers, st.sampled_from(["log", "standardise", "quantiles"]), st.integers(2, 9))
def test_transforms_are_finite_monotone_and_fitted_on_what_counts(
    values: list[float], numeric: str, buckets: int
) -> None:
    column = np.array([*values, 1e12, -1e12])
    weight = np.array([*(1.0 for _ in values), 0.0, 0.0])
    options = NumericOptions.model_validate({"numeric": numeric, "buckets": buckets})
    fitted = fit_numeric(column, weight, options)
    assert fitted == fit_numeric(np.array(values), np.ones(len(values)), options)
    dense, bucket = fitted.dense(column), fitted.bucket(column)
    assert np.all(np.isfinite(dense))
    assert fitted.has_missing == bool(np.any(~np.isfinite(values)))
    known = np.isfinite(column)
    order = np.argsort(column[known])
    assert np.all(np.diff(dense[known][order]) >= 0)
    assert np.all(np.diff(bucket[known][order]) >= 0)
    assert np.all(dense[~known] == 0)
    assert np.all(bucket[~known] == 2)


def test_quantile_buckets_are_evenly_filled() -> None:
    random = np.random.default_rng(1)
    column = random.lognormal(size=10_000)
    fitted = fit_numeric(column, np.ones(len(column)), NumericOptions(numeric="quantiles", buckets=8))
    filled = np.bincount(fitted.bucket(column))[3:]
    assert np.abs(filled - 1250).max() < 10
    assert abs(fitted.dense(column).std() - 1) < 1e-3


def test_weights_count_as_repeated_rows() -> None:
    options = NumericOptions(numeric="quantiles", buckets=4)
    column, weight = np.array([1.0, 5.0, 9.0, 2.0]), np.array([3.0, 1.0, 2.0, 0.0])
    repeated = np.array([1.0, 1.0, 1.0, 5.0, 9.0, 9.0])
    assert fit_numeric(column, weight, options) == fit_numeric(repeated, np.ones(6), options)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 6), st.integers(7, 14))
@example(35107, 1, 1, 7)  # the request took every item: it gets none
def test_negatives_are_distinct_never_taken_and_seeded(seed: int, requests: int, per_request: int, items: int) -> None:
    random = np.random.default_rng(seed)
    pairs = np.unique(random.integers(requests, size=8) * items + random.integers(items, size=8))
    taken = pairs // items, pairs % items
    weight = random.integers(1, 50, size=items) ** 3
    # Room for the largest request, so that nothing is refused.
    per_request = min(per_request, items - int(np.bincount(taken[0]).max()))
    sampler = NegativeSampler(weight, per_request, seed)
    request, item = sampler.draw(np.arange(requests), *taken)
    assert request.tolist() == np.repeat(np.arange(requests), per_request).tolist()
    drawn = set(zip(request.tolist(), item.tolist(), strict=True))
    assert len(drawn) == len(request)
    assert not drawn & set(zip(*(part.tolist() for part in taken), strict=True))
    # Neither the other requests nor how many are drawn for at once change anything.
    for one in range(requests):
        alone = sampler.draw(np.array([one]), *(part[taken[0] == one] for part in taken))
        assert alone[1].tolist() == item[request == one].tolist()


def test_negatives_follow_popularity() -> None:
    weight = np.array([0, 1, 2, 7])
    nothing = np.zeros(0, dtype=np.int64)
    _, item = NegativeSampler(weight, 1, 3).draw(np.arange(30_000), nothing, nothing)
    np.testing.assert_allclose(np.bincount(item) / len(item), weight / 10, atol=0.01)


def test_too_few_items_to_draw_are_refused() -> None:
    with pytest.raises(
        DataError, match="only 3 items can be drawn and a request took up to 1 of them: ask for at most 2"
    ):
        NegativeSampler(np.array([0, 1, 1, 1]), 3, 1).refuse_too_few(1)
