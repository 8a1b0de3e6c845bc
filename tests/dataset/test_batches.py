"""Batches against a naive reference that reads the dataset request by request."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from musenet.dataset import batches as under_test
from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.batches import Batches, part_of_requests
from musenet.dataset.builder import BatchBuilder, part_of
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import FIRST_VALUE, UNSEEN
from musenet.dataset.manifest import Field as DatasetField
from musenet.dataset.writer import Arrays
from planted import HISTORY_LENGTH, REQUESTS, write_planted


def naive_codes(dataset: Dataset, fields: tuple[DatasetField, ...], rows: dict[str, int]) -> list[int]:
    """Rows of the embedding table of one request, candidate or event; padding and a fixed position included."""
    codes = []
    for field in fields:
        stored = dataset.column(field)[rows[field.side]]
        offset = dataset.embedding_offset[field.vocabulary or field.name]
        for code in np.atleast_1d(stored).tolist():
            chosen = FIRST_VALUE if field.is_position else code
            codes.append(chosen + offset if chosen else 0)
    return codes


def naive_dense(dataset: Dataset, fields: tuple[DatasetField, ...], rows: dict[str, int]) -> list[float]:
    return [float(dataset.column(field)[rows[field.side]]) for field in fields]


def rows_of(batch: Batch, codes: torch.Tensor) -> list[list[int]]:
    return batch.rows[codes].tolist()


def all_columns(batch: Batch) -> dict[str, Any]:
    """Everything a batch says, embedding rows written out."""
    content = {name: value for name, value in vars(batch).items() if name != "rows" and value is not None}
    for name in ("request_codes", "candidate_codes", "history_codes"):
        content[name] = batch.rows[content[name]]
    return content


def absolute_columns(batch: Batch) -> dict[str, Any]:
    """The same without places inside the batch: candidates' requests as the dataset's, histories by their lengths."""
    request, lengths = batch.request_index[batch.request], batch.history_offset.diff()
    return all_columns(batch) | {"request": request, "history_offset": lengths}


def assert_same(first: Batch, second: Batch) -> None:
    for name, value in all_columns(first).items():
        torch.testing.assert_close(value, all_columns(second)[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_equals_reading_request_by_request(weighted: bool, tmp_path: Path):
    dataset = write_planted(tmp_path / "dataset", weighted=weighted)
    schema = schema_of(dataset)
    requests = np.random.default_rng(3).permutation(sum(REQUESTS.values()))[:40]
    batch = BatchBuilder(dataset).build(requests)
    candidate = event = 0
    for place, request in enumerate(requests.tolist()):
        user = int(dataset.requests.user[request])
        rows = {"user": user, "context": request}
        assert rows_of(batch, batch.request_codes)[place] == naive_codes(dataset, schema.request_fields, rows)
        assert batch.request_dense[place].tolist() == naive_dense(dataset, schema.request_dense, rows)
        end = int(dataset.requests.history_end[request])
        begin = max(int(dataset.events.offset[user]), end - HISTORY_LENGTH)
        assert batch.history_offset[place : place + 2].tolist() == [event, event + end - begin]
        for row in range(begin, end):
            expected = naive_codes(dataset, schema.history_fields, {"history": row})
            assert batch.rows[batch.history_codes[event]].tolist() == expected
            event += 1
        for row in range(*dataset.requests.candidate_offset[request : request + 2].tolist()):
            rows = {"item": int(dataset.candidates.item[row]), "candidate": row}
            assert batch.request[candidate] == place
            codes = batch.rows[batch.candidate_codes[candidate]].tolist()
            assert codes == naive_codes(dataset, schema.candidate_fields, rows)
            assert batch.candidate_dense[candidate].tolist() == naive_dense(dataset, schema.candidate_dense, rows)
            assert batch.label[candidate] == dataset.candidates.label[row]
            assert batch.repeat_indicator[candidate] == bool(dataset.candidates.repeat_indicator[row])
            assert (batch.weight is not None) == weighted
            if batch.weight is not None:
                assert batch.weight[candidate] == dataset.candidates.weight[row]
            candidate += 1
    assert (batch.requests, batch.candidates, len(batch.history_codes)) == (40, candidate, event)
    for name in ("repeat_fraction", "predefined_scenario", "true_scenario"):
        np.testing.assert_array_equal(getattr(batch, name).numpy(), getattr(dataset.requests, name)[requests])
    assert batch.request_index.tolist() == requests.tolist()


def test_repeat_features_are_indicator_log_count_and_log_seconds(planted_dataset: Dataset):
    batch = BatchBuilder(planted_dataset).build(np.arange(sum(REQUESTS.values())))
    count, recency = (getattr(planted_dataset.candidates, f"repeat_{name}") for name in ("count", "recency"))
    never = count == 0
    np.testing.assert_array_equal(batch.repeat_features[never].numpy(), 0)
    expected = np.stack([np.ones(len(count)), np.log(1 + count), np.log((1 + recency) / 86401) / 2], axis=1)[~never]
    np.testing.assert_allclose(batch.repeat_features[~never].numpy(), expected, rtol=1e-6, atol=1e-6)
    assert 10 < (~never).sum() < len(never) - 10


def test_distinct_rows_start_with_padding_and_hold_nothing_twice(planted_dataset: Dataset):
    batch = BatchBuilder(planted_dataset).build(np.arange(20))
    assert batch.rows[0] == 0
    assert len(batch.rows.unique()) == len(batch.rows)
    used = torch.cat([batch.request_codes.flatten(), batch.candidate_codes.flatten(), batch.history_codes.flatten()])
    assert set(used.tolist()) | {0} == set(range(len(batch.rows)))
    assert int(batch.rows.max()) < planted_dataset.embedding_rows


@pytest.mark.parametrize("batch_size", [1, 7, 32, 100, 10_000])
def test_an_epoch_holds_every_training_request_once(batch_size: int, planted_dataset: Dataset):
    batches = Batches(planted_dataset, "train", batch_size, shuffle_seed=5)
    for epoch in range(3):
        plan = batches.plan(epoch)
        assert len(plan) == len(batches)
        assert all(len(part) for part in plan)
        assert sorted(np.concatenate(plan).tolist()) == list(range(REQUESTS["train"]))


def sizes(dataset: Dataset, plan: list[NDArray[Any]]) -> list[int]:
    of_request = np.diff(dataset.requests.candidate_offset)
    return [int(of_request[part].sum()) for part in plan]


@pytest.mark.parametrize("batch_size", [20, 32, 50])
def test_batches_are_about_as_large_as_asked(batch_size: int, planted_dataset: Dataset):
    batches = Batches(planted_dataset, "train", batch_size, shuffle_seed=5)
    impressions = planted_dataset.manifest.splits["train"].impressions
    assert len(batches) == -(-impressions // batch_size)
    even, largest = impressions / len(batches), 5
    for epoch in range(3):
        assert all(abs(size - even) <= largest for size in sizes(planted_dataset, batches.plan(epoch)))


def test_requests_larger_than_a_batch_stay_whole(tmp_path: Path):
    plain = write_planted(tmp_path / "plain")
    offset = np.asarray(plain.requests.candidate_offset).copy()
    offset[1:4] = offset[4] - np.array([2, 1, 0])  # the first request takes nearly all of the first four's candidates
    dataset = write_planted(tmp_path / "large", changes=Arrays(requests={"candidate_offset": offset}))
    batches = Batches(dataset, "train", 2, shuffle_seed=5)
    plan = batches.plan(0)
    assert len(plan) == len(batches)
    assert sorted(np.concatenate(plan).tolist()) == list(range(REQUESTS["train"]))
    assert max(sizes(dataset, plan)) >= offset[1] > 2


def test_order_is_decided_by_seed_and_epoch(planted_dataset: Dataset):
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(Batches(planted_dataset, "train", 32, shuffle_seed=seed).plan(epoch)).tolist()

    assert order(5, 1) == order(5, 1)
    assert order(5, 1) != order(5, 2)
    assert order(5, 1) != order(6, 1)


@pytest.mark.parametrize("planned_at_once", [1, 7, 500_000])
def test_the_plan_is_that_of_the_whole_order(
    planned_at_once: int, planted_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(under_test, "PLANNED_AT_ONCE", planned_at_once)
    batches = Batches(planted_dataset, "train", 16, shuffle_seed=3)
    order = np.random.default_rng([3, 1]).permutation(REQUESTS["train"])
    sizes = np.diff(planted_dataset.requests.candidate_offset)[order]
    batch = (np.cumsum(sizes) - sizes) * len(batches) // sizes.sum()
    assert [part.tolist() for part in batches.plan(1)] == [
        order[batch == place].tolist() for place in range(len(batches))
    ]


def test_without_a_seed_requests_come_in_the_datasets_order(planted_dataset: Dataset):
    batches = Batches(planted_dataset, "valid", 16)
    requests = [request for batch in batches.epoch() for request in batch.request_index.tolist()]
    assert requests == list(range(REQUESTS["train"], REQUESTS["train"] + REQUESTS["valid"]))


@pytest.mark.parametrize("start", [0, 1, 3, 99])
def test_starting_inside_an_epoch_gives_its_tail(start: int, planted_dataset: Dataset):
    batches = Batches(planted_dataset, "train", 32, shuffle_seed=5, unseen_rate=0.3)
    whole, tail = list(batches.epoch(2)), list(batches.epoch(2, start=start))
    assert len(tail) == max(len(whole) - start, 0)
    for expected, found in zip(whole[start:], tail, strict=True):
        assert_same(found, expected)


def test_an_epoch_may_be_left_in_the_middle(planted_dataset: Dataset):
    batches = Batches(planted_dataset, "train", 8, shuffle_seed=5)
    iterator = batches.epoch(0)
    first = next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert_same(first, next(iter(batches.epoch(0))))


def test_unseen_rate_touches_only_the_ids_of_training(planted_dataset: Dataset):
    rate, touched = 0.4, {"user_id": 0, "item_id": 0}
    columns = [field for field in planted_dataset.manifest.fields if field.kind != "dense"]
    before = Batches(planted_dataset, "train", 10_000, shuffle_seed=5, unseen_rate=0.0)
    after = Batches(planted_dataset, "train", 10_000, shuffle_seed=5, unseen_rate=rate)
    (plain,), (changed,) = before.epoch(0), after.epoch(0)
    for name, sides in (
        ("request_codes", ("user", "context")),
        ("candidate_codes", ("item", "candidate")),
        ("history_codes", ("history",)),
    ):
        place = 0
        for field in (f for f in columns if f.side in sides):
            was, now = (all_columns(b)[name][:, place : place + field.width] for b in (plain, changed))
            place += field.width
            if field.is_id and field.side != "history":
                assert field.vocabulary is not None
                unseen = planted_dataset.embedding_offset[field.vocabulary] + UNSEEN
                assert (now[now != was] == unseen).all()
                share = (now != was).sum() / (was != unseen).sum()
                assert abs(float(share) - rate) < 0.15
                touched[field.name] += int((now != was).sum())
            else:
                assert torch.equal(now, was), field.name
    assert min(touched.values()) > 10


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_parts_of_batches_are_the_batches_cut_up(parts: int, planted_dataset: Dataset):
    """Unseen ids included; a part of few requests may be empty."""

    def batches(part: tuple[int, int]) -> Batches:
        return Batches(planted_dataset, "train", 8, shuffle_seed=5, unseen_rate=0.4, part=part)

    whole = list(batches((0, 1)).epoch(1))
    cut_up = [list(batches((which, parts)).epoch(1)) for which in range(parts)]
    for batch, *of_batch in zip(whole, *cut_up, strict=True):
        columns, of_parts = absolute_columns(batch), [absolute_columns(part) for part in of_batch]
        for name, column in columns.items():
            together = torch.cat([of_part[name] for of_part in of_parts])
            torch.testing.assert_close(together, column, rtol=0, atol=0, equal_nan=True)
    assert any(part.candidates == 0 for of_part in cut_up for part in of_part) == (parts > 1)


def test_parts_of_a_batch_have_about_as_many_candidates():
    sizes = np.random.default_rng(0).integers(1, 20, 400)
    shares = [sizes[part_of(sizes, (which, 3))].sum() / sizes.sum() for which in range(3)]
    assert max(abs(share - 1 / 3) for share in shares) < 20 / sizes.sum()


def test_scoring_leaves_ids_as_they_are(planted_dataset: Dataset):
    batches = Batches(planted_dataset, "train", 10_000, unseen_rate=0.9)
    (batch,) = batches.epoch(0)
    assert_same(batch, BatchBuilder(planted_dataset).build(np.arange(REQUESTS["train"])))


def test_positions_are_learned_in_training_and_fixed_when_scoring(planted_dataset: Dataset):
    training = Batches(planted_dataset, "train", 10_000, shuffle_seed=5, unseen_rate=0.0)
    scoring = Batches(planted_dataset, "train", 10_000)
    offset = planted_dataset.embedding_offset["rank"]
    ranks = [
        set((all_columns(batch)["candidate_codes"][:, -1] - offset).tolist())
        for batch in (*training.epoch(0), *scoring.epoch(0))
    ]
    assert ranks == [{3, 4, 5, 6, 7}, {FIRST_VALUE}]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_a_share_is_the_same_requests_for_every_seed_and_part_of_a_larger_share(share: float, tmp_path: Path):
    dataset = write_planted(tmp_path / "dataset")
    period = dataset.manifest.splits["train"]

    def seen(share: float, seed: int, epoch: int = 0) -> list[int]:
        chosen = part_of_requests(dataset, "train", share)
        plan = Batches(dataset, "train", 16, shuffle_seed=seed, requests=chosen).plan(epoch)
        return np.concatenate(plan).tolist()  # type: ignore[no-any-return]

    first = seen(share, seed=1)
    assert len(first) == len(set(first)) == round(share * REQUESTS["train"])
    assert all(period.begin <= request < period.end for request in first)
    assert sorted(seen(share, seed=2, epoch=3)) == sorted(first)
    assert seen(share, seed=2) != first
    assert set(first) < set(seen(share + 0.2, seed=1))
    assert seen(1.0, seed=1) == (np.random.default_rng([1, 0]).permutation(REQUESTS["train"]) + period.begin).tolist()


@pytest.mark.parametrize(("share", "replay"), [(1.0, 0.0), (0.5, 0.0), (1.0, 0.25), (0.5, 0.5)])
def test_a_share_of_requests_up_to_a_time_is_used_beside_the_later_ones(share: float, replay: float, tmp_path: Path):
    dataset = write_planted(tmp_path / "dataset")
    period = dataset.manifest.splits["train"]
    times = np.asarray(dataset.requests.time[period.begin : period.end])
    until = int(times[len(times) // 2])
    chosen = part_of_requests(dataset, "train", share, until, replay)
    assert chosen is not None
    old = times[chosen - period.begin] <= until
    assert old.sum() == round(share * replay * (times <= until).sum())
    assert (~old).sum() == round(share * (times > until).sum())
    plan = Batches(dataset, "train", 16, shuffle_seed=3, requests=chosen).plan(0)
    assert sorted(np.concatenate(plan)) == chosen.tolist()
    assert len(set(chosen.tolist())) == len(chosen)


def test_the_batches_of_a_share_are_as_large_as_asked(tmp_path: Path):
    dataset = write_planted(tmp_path / "dataset")
    batches = Batches(dataset, "train", 16, shuffle_seed=1, requests=part_of_requests(dataset, "train", 0.5))
    sizes = [batch.candidates for batch in batches.epoch(0)]
    assert len(sizes) == len(batches)
    assert sum(sizes) / len(sizes) == pytest.approx(16, rel=0.1)
