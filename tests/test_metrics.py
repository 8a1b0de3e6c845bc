"""The metrics against slow, obvious references, and the properties that define them."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from musenet import metrics

Array = NDArray[np.float64]
SEEDS = range(4)


def random_rows(seed: int, rows: int = 200, distinct_scores: int = 12) -> tuple[Array, Array, NDArray[np.int64]]:
    """Labels, probabilities with many ties, and groups of uneven size, some of one class."""
    generator = np.random.default_rng(seed)
    label = (generator.random(rows) < 0.3).astype(np.float64)
    probability = generator.integers(1, distinct_scores, size=rows) / distinct_scores
    group = generator.geometric(0.08, size=rows)
    return label, probability, group


def auc_by_counting_pairs(label: Array, score: Array, weight: Array | None = None) -> float:
    weight = np.ones(len(label)) if weight is None else weight
    wins = pairs = 0.0
    for i in np.flatnonzero(label == 1):
        for j in np.flatnonzero(label == 0):
            pairs += weight[i] * weight[j]
            wins += weight[i] * weight[j] * ((score[i] > score[j]) + 0.5 * (score[i] == score[j]))
    return wins / pairs if pairs else math.nan


def grouped_auc_by_looping(label: Array, score: Array, group: NDArray[np.int64]) -> metrics.GroupedAuc:
    total = impressions = 0.0
    used = left_out = left_out_rows = 0
    for key in set(group.tolist()):
        rows = group == key
        if len(set(label[rows].tolist())) == 1:
            left_out, left_out_rows = left_out + 1, left_out_rows + int(rows.sum())
            continue
        used += 1
        total += rows.sum() * auc_by_counting_pairs(label[rows], score[rows])
        impressions += rows.sum()
    return metrics.GroupedAuc(total / impressions, used, left_out, left_out_rows)


@pytest.mark.parametrize("seed", SEEDS)
def test_auc_counts_pairs_with_ties_one_half(seed: int) -> None:
    label, score, _ = random_rows(seed)
    weight = np.random.default_rng(seed).random(len(label))
    assert metrics.auc(label, score) == pytest.approx(auc_by_counting_pairs(label, score), abs=1e-12)
    assert metrics.auc(label, score, weight) == pytest.approx(auc_by_counting_pairs(label, score, weight), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_auc_equals_sklearns(seed: int) -> None:
    label, score, _ = random_rows(seed, rows=2000)
    assert metrics.auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_order_of_scores_matters_to_auc(seed: int) -> None:
    label, score, group = random_rows(seed)
    moved = np.exp(3 * score) - 7
    assert metrics.auc(label, moved) == metrics.auc(label, score)
    assert metrics.grouped_auc(label, moved, group) == metrics.grouped_auc(label, score, group)
    assert metrics.auc(label, -score) == pytest.approx(1 - metrics.auc(label, score), abs=1e-12)


def test_a_constant_score_has_auc_one_half() -> None:
    assert metrics.auc([0, 1, 1, 0, 0], np.zeros(5)) == 0.5


@pytest.mark.parametrize("label", [[0, 0], [1, 1]])
def test_auc_of_one_class_is_undefined(label: list[int]) -> None:
    assert math.isnan(metrics.auc(label, [0.1, 0.2]))


def test_a_class_whose_weight_is_zero_is_missing() -> None:
    assert math.isnan(metrics.auc([0, 1], [0.1, 0.2], [0, 1]))
    left_out = metrics.grouped_auc([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], [1, 1, 2, 2], [0, 1, 1, 1])
    assert (left_out.groups, left_out.left_out_groups) == (1, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_grouped_auc_equals_a_loop_over_groups(seed: int) -> None:
    label, score, group = random_rows(seed)
    expected = grouped_auc_by_looping(label, score, group)
    found = metrics.grouped_auc(label, score, group)
    assert found.value == pytest.approx(expected.value, abs=1e-12)
    assert found.left_out_groups == expected.left_out_groups > 0
    assert (found.groups, found.left_out_impressions) == (expected.groups, expected.left_out_impressions)


def test_grouped_auc_in_one_group_is_auc() -> None:
    label, score, _ = random_rows(0)
    assert metrics.grouped_auc(label, score, np.zeros(len(label))).value == pytest.approx(metrics.auc(label, score))


def test_equal_scores_across_groups_are_no_tie() -> None:
    assert metrics.grouped_auc([1, 0, 0, 1], [0.5, 0.5, 0.5, 0.5], [1, 2, 1, 2]).value == 0.5
    assert metrics.grouped_auc([1, 0, 0, 1], [0.5, 0.5, 0.4, 0.6], [1, 2, 1, 2]).value == 1.0


def test_grouped_auc_takes_any_key_and_leaves_all_one_class_groups_out() -> None:
    result = metrics.grouped_auc([1, 0, 0], [0.1, 0.2, 0.3], ["a", "b", "b"])
    assert math.isnan(result.value)
    assert (result.groups, result.left_out_groups, result.left_out_impressions) == (0, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_logloss_equals_sklearns(seed: int) -> None:
    label, probability, _ = random_rows(seed)
    weight = np.random.default_rng(seed).random(len(label))
    logit = np.log(probability / (1 - probability))
    expected = log_loss(label, probability, sample_weight=weight)
    assert metrics.logloss(label, probability, weight) == pytest.approx(expected, abs=1e-12)
    assert metrics.logloss_from_logit(label, logit, weight) == pytest.approx(expected, abs=1e-12)


def test_logloss_from_extreme_logits_is_exact() -> None:
    assert metrics.logloss_from_logit([1, 0], [1e4, -1e4]) == 0.0
    assert metrics.logloss_from_logit([0, 1], [1e4, -1e4]) == 1e4
    assert metrics.logloss_from_logit([1], np.array([40.0], dtype=np.float32)) == pytest.approx(
        math.exp(-40), rel=1e-12
    )
    assert metrics.logloss_from_logit([1], [np.inf]) == 0.0


def test_logloss_of_impossible_and_certain_probabilities() -> None:
    assert metrics.logloss([1, 0], [1.0, 0.0]) == 0.0
    assert metrics.logloss([1, 0], [0.0, 0.0]) == math.inf
    assert metrics.logloss([1, 0], [0.0, 0.0], [0, 1]) == 0.0


def test_probability_of_logit_saturates_without_warning() -> None:
    np.testing.assert_array_equal(metrics.probability_of_logit([-1e4, 0.0, 1e4]), [0.0, 0.5, 1.0])


def test_rela_impr_as_in_the_papers_table() -> None:
    assert metrics.rela_impr(0.7613, 0.7521) == pytest.approx(0.0364, abs=1e-4)
    assert metrics.rela_impr(0.6171, 0.6171) == 0.0
    assert math.isnan(metrics.rela_impr(0.6, 0.5))
    assert math.isnan(metrics.rela_impr(0.6, math.nan))


def test_calibration_ratio_is_predicted_over_observed() -> None:
    label, probability, _ = random_rows(3)
    assert metrics.calibration_ratio(label, probability) == pytest.approx(probability.sum() / label.sum())
    assert math.isnan(metrics.calibration_ratio([0, 0], [0.1, 0.2]))


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_error_equals_a_loop_over_bins(seed: int) -> None:
    label, probability, _ = random_rows(seed)
    bins = metrics.equal_count_bins(probability)
    gaps = [abs(np.sum(probability[bins == b]) - np.sum(label[bins == b])) for b in range(20)]
    assert metrics.calibration_error(label, probability) == pytest.approx(sum(gaps) / len(label), abs=1e-12)


def test_calibration_error_of_a_known_shift() -> None:
    label = np.tile([1.0, 0.0, 0.0, 0.0], 1000)
    assert metrics.calibration_error(label, np.full(4000, 0.25)) == pytest.approx(0.0, abs=1e-12)
    assert metrics.calibration_error(label, np.full(4000, 0.35)) == pytest.approx(0.1)


def test_bins_are_equally_full_and_in_order() -> None:
    score = np.random.default_rng(0).permutation(1000) / 1000
    bins = metrics.equal_count_bins(score)
    np.testing.assert_array_equal(np.bincount(bins), np.full(20, 50))
    assert np.all(np.diff(bins[np.argsort(score)]) >= 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_scores_share_a_bin(seed: int) -> None:
    _, score, _ = random_rows(seed, distinct_scores=40)
    bins = metrics.equal_count_bins(score)
    assert all(len(set(bins[score == value].tolist())) == 1 for value in set(score.tolist()))
    assert bins.min() >= 0
    assert bins.max() < 20


def test_a_last_score_of_no_weight_stays_in_the_last_bin() -> None:
    assert metrics.equal_count_bins([0.1, 0.2], [1, 0], bins=4).tolist() == [2, 3]


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_are_repeated_rows(seed: int) -> None:
    label, probability, group = random_rows(seed)
    times = np.random.default_rng(seed + 100).integers(0, 4, size=len(label))
    repeated_label, repeated_probability = np.repeat(label, times), np.repeat(probability, times)
    for metric in (metrics.auc, metrics.logloss, metrics.calibration_ratio, metrics.calibration_error):
        expected = metric(repeated_label, repeated_probability)
        assert metric(label, probability, times) == pytest.approx(expected, abs=1e-12), metric.__name__
    expected_gauc = metrics.grouped_auc(repeated_label, repeated_probability, np.repeat(group, times)).value
    assert metrics.grouped_auc(label, probability, group, times).value == pytest.approx(expected_gauc, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    label, probability, group = random_rows(seed)
    order = np.random.default_rng(seed).permutation(len(label))
    assert metrics.auc(label[order], probability[order]) == pytest.approx(metrics.auc(label, probability), abs=1e-12)
    shuffled = metrics.grouped_auc(label[order], probability[order], group[order])
    assert shuffled.value == pytest.approx(metrics.grouped_auc(label, probability, group).value, abs=1e-12)


@pytest.mark.parametrize(
    ("label", "probability", "weight", "message"),
    [
        ([], [], None, "label is empty"),
        ([0, 1], [0.1], None, "label has 2 rows, probability has 1"),
        ([0, 2], [0.1, 0.2], None, "label must be 0 or 1; found 2"),
        ([0, 1], [0.1, np.nan], None, "probability holds nan, in 1 of 2 rows"),
        ([0, 1], [0.1, 1.2], None, "are these logits"),
        ([0, 1], [[0.1, 0.2]], None, "one dimension"),
        ([0, 1], [0.1, 0.2], [1], "weight has 1 rows for 2"),
        ([0, 1], [0.1, 0.2], [1, -1], "weight must be finite"),
        ([0, 1], [0.1, 0.2], [0, 0], "weight must be finite"),
    ],
)
def test_malformed_input_is_named(
    label: list[int], probability: list[float], weight: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.logloss(label, probability, weight)


def test_malformed_groups_and_bins_are_named() -> None:
    with pytest.raises(ValueError, match="group has shape"):
        metrics.grouped_auc([0, 1], [0.1, 0.2], [1])
    with pytest.raises(ValueError, match="bins is 0"):
        metrics.calibration_error([0, 1], [0.1, 0.2], bins=0)


def slow_ndcg(label: np.ndarray, score: np.ndarray, k: int) -> float:
    """scikit-learn's, which shares the worth of tied ranks out evenly too."""
    if label.sum() == 0 or len(label) == 1:
        return float("nan")
    return float(ndcg_score(label[None], score[None], k=k))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_is_scikit_learns_within_every_group(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    group, label = random.integers(0, 40, 300), (random.random(300) < 0.3).astype(float)
    score = random.integers(0, 6, 300).astype(float)  # many ties
    groups, found = metrics.ndcg_by_group(label, score, group, k)
    expected = [slow_ndcg(label[group == one], score[group == one], k) for one in groups]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_ndcg_by_hand() -> None:
    """Clicks at ranks 2 and 4 of four: (1/log2 3 + 1/log2 5) / (1 + 1/log2 3)."""
    found = metrics.ndcg_by_group([0, 1, 0, 1], [4, 3, 2, 1], [1, 1, 1, 1], 5)[1]
    assert found[0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3)))
