"""The bootstrap over users against resampling rows by hand, and what its intervals promise."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bootstrap import paired_difference, resample_metrics, user_bootstrap
from musenet import metrics
from musenet.evaluation.draws import Sample, UserDraws
from musenet.evaluation.estimators import METRICS
from musenet.evaluation.intervals import (
    difference,
    rela_impr_interval,
    resample_model,
    seed_and_user_interval,
)

Array = NDArray[np.float64]


def random_sample(seed: int, users: int = 30, requests: int = 90, weighted: bool = False) -> Sample:
    """Requests of one to eight candidates, rounded logits (ties), users who differ, ids neither dense nor sorted."""
    generator = np.random.default_rng(seed)
    request = np.repeat(generator.permutation(requests), generator.integers(1, 9, size=requests))
    user = request % users
    logit = np.round(generator.normal(-1, 1, size=len(request)) + 0.5 * np.sin(user), 1)
    label = (generator.random(len(request)) < metrics.probability_of_logit(1.3 * logit)).astype(np.float64)
    weight = generator.integers(1, 4, size=len(request)).astype(np.float64) if weighted else None
    return Sample(label, logit, 1000 - 7 * user, 10 * request + 3, weight)


def sample_of(label: Any, logit: Any, user: Any, request: Any, weight: Any = None) -> Sample:
    """A sample of lists; it makes arrays of them itself."""
    return Sample(label, logit, user, request, weight)


def with_logit(sample: Sample, seed: int, noise: float) -> Sample:
    return replace(sample, logit=sample.logit + noise * np.random.default_rng(seed).normal(size=len(sample.logit)))


def rows_of_resample(sample: Sample, draws: UserDraws, counts: Array) -> Sample:
    """The rows themselves, user by user, a user drawn twice being two users with requests of their own."""
    rows, copies = [], []
    for identity, count in zip(draws.ids, counts, strict=True):
        own = np.flatnonzero(sample.user == identity)
        for copy in range(int(count)):
            rows.append(own)
            copies.append(np.full(len(own), copy))
    row, copy_of_row = np.concatenate(rows), np.concatenate(copies)
    return Sample(
        label=sample.label[row],
        logit=sample.logit[row],
        user=sample.user[row] * 100 + copy_of_row,
        request=sample.request[row] * 100 + copy_of_row,
        weight=None if sample.weight is None else sample.weight[row],
    )


def plain_metrics(sample: Sample, bins: NDArray[np.int64] | None = None) -> dict[str, float]:
    label, logit, weight = sample.label, sample.logit, sample.weights
    probability = metrics.probability_of_logit(logit)
    bins = metrics.equal_count_bins(probability, weight) if bins is None else bins
    gaps = [abs(np.sum((weight * (probability - label))[bins == b])) for b in range(metrics.CALIBRATION_BINS)]
    return {
        "auc": metrics.auc(label, logit, weight),
        "gauc": metrics.grouped_auc(label, logit, sample.request, weight).value,
        "gauc_by_user": metrics.grouped_auc(label, logit, sample.user, weight).value,
        "ndcg": float(np.nanmean(metrics.ndcg_by_group(label, logit, sample.request, 5)[1])),
        "logloss": metrics.logloss_from_logit(label, logit, weight),
        "calibration_ratio": metrics.calibration_ratio(label, probability, weight),
        "calibration_error": sum(gaps) / float(weight.sum()),
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_resample_equals_the_metrics_of_the_rows_drawn(seed: int, weighted: bool) -> None:
    sample = random_sample(seed, weighted=weighted)
    draws = UserDraws(sample.user, resamples=12, seed=seed)
    fast = resample_metrics(sample, draws)
    bin_of_probability = dict(
        zip(
            sample.logit,
            metrics.equal_count_bins(metrics.probability_of_logit(sample.logit), sample.weights),
            strict=True,
        )
    )
    for resample, counts in enumerate(np.concatenate(list(draws.blocks()))):
        drawn = rows_of_resample(sample, draws, counts)
        expected = plain_metrics(drawn, np.array([bin_of_probability[logit] for logit in drawn.logit]))
        for metric in METRICS:
            assert fast[metric][resample] == pytest.approx(expected[metric], abs=1e-12), metric


@pytest.mark.parametrize("weighted", [False, True])
def test_the_value_is_the_metric_of_the_whole_sample(weighted: bool) -> None:
    sample = random_sample(1, weighted=weighted)
    found = user_bootstrap(sample, resamples=50)
    expected = plain_metrics(sample)
    assert tuple(found) == METRICS == tuple(expected)
    for metric, interval in found.items():
        assert interval.value == pytest.approx(expected[metric], abs=1e-12), metric
        assert interval.low <= interval.value <= interval.high, metric
        assert interval.low < interval.high, metric


def test_the_calibration_error_is_that_of_the_metrics() -> None:
    sample = random_sample(2)
    expected = metrics.calibration_error(sample.label, metrics.probability_of_logit(sample.logit))
    assert user_bootstrap(sample, resamples=5)["calibration_error"].value == pytest.approx(expected, abs=1e-12)


def test_every_resample_draws_as_many_users_as_there_are() -> None:
    draws = UserDraws([5, 5, 9, 2, 7], resamples=300, seed=0)
    counts = np.concatenate(list(draws.blocks()))
    assert draws.ids.tolist() == [2, 5, 7, 9]
    assert counts.shape == (300, 4)
    assert np.all(counts.sum(axis=1) == 4)
    np.testing.assert_allclose(counts.mean(axis=0), np.ones(4), atol=0.2)


def test_draws_repeat_and_do_not_depend_on_how_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.concatenate(list(UserDraws(np.arange(50), 30, seed=3).blocks()))
    monkeypatch.setattr("musenet.evaluation.draws.CACHED_BYTES", 0)
    monkeypatch.setattr("musenet.evaluation.draws.BLOCK_VALUES", 350)
    afresh = UserDraws(np.arange(50), 30, seed=3)
    for _ in range(2):
        blocks = list(afresh.blocks())
        assert [len(block) for block in blocks] == [7, 7, 7, 7, 2]
        np.testing.assert_array_equal(np.concatenate(blocks), kept)
    assert not np.array_equal(np.concatenate(list(UserDraws(np.arange(50), 30, seed=4).blocks())), kept)


def test_the_order_of_rows_does_not_matter() -> None:
    sample = random_sample(5)
    order = np.random.default_rng(0).permutation(len(sample.label))
    shuffled = Sample(sample.label[order], sample.logit[order], sample.user[order], sample.request[order])
    draws = UserDraws(sample.user, 20)
    expected, found = resample_metrics(sample, draws), resample_metrics(shuffled, draws)
    for metric in METRICS:
        np.testing.assert_allclose(found[metric], expected[metric], atol=1e-12)


def test_only_the_metrics_asked_for_are_computed() -> None:
    sample = random_sample(0)
    draws = UserDraws(sample.user, 5)
    assert list(resample_metrics(sample, draws, ["logloss"])) == ["logloss"]
    with pytest.raises(ValueError, match=r"no such metric: recall; there are auc, gauc"):
        resample_metrics(sample, draws, ["recall"])
    with pytest.raises(ValueError, match="'auc' was not resampled; there are logloss"):
        seed_and_user_interval(resample_model(sample, draws, ["logloss"]), "auc")


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Users who differ in their click rate, which rows drawn one by one would overlook."""
    covered = covered_by_rows = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        rate = generator.beta(2, 2, size=60)
        user = np.repeat(np.arange(60), 20)
        label = (generator.random(len(user)) < rate[user]).astype(np.float64)
        # The loss of a constant prediction of 0.7 has expectation ½ log(1/0.7) + ½ log(1/0.3).
        logit = np.full(len(user), math.log(0.7 / 0.3))
        truth = -0.5 * (math.log(0.7) + math.log(0.3))
        for group in (user, np.arange(len(user))):
            sample = Sample(label, logit, group, np.arange(len(user)))
            model = resample_model(sample, UserDraws(group, 100, trial), ["logloss"])
            interval = seed_and_user_interval(model, "logloss")
            hit = interval.low <= truth <= interval.high
            covered, covered_by_rows = covered + (hit and group is user), covered_by_rows + (hit and group is not user)
    assert 0.89 <= covered / 200 <= 0.98
    assert covered_by_rows / 200 < 0.75


def test_the_calibration_errors_interval_is_free_of_the_resamplings_bias() -> None:
    covered = 0
    for trial in range(100):
        generator = np.random.default_rng(trial)
        logit = generator.normal(size=4000)
        probability = metrics.probability_of_logit(logit)
        label = (generator.random(4000) < probability).astype(np.float64)
        # Everything is predicted 1.25 times too boldly, up to 1: the true error is known to the noise of the logits.
        bold = np.minimum(1.25 * probability, 0.999)
        truth = float(np.mean(bold - probability))
        sample = Sample(label, np.log(bold / (1 - bold)), np.arange(4000), np.arange(4000))
        model = resample_model(sample, UserDraws(sample.user, 100, trial), ["calibration_error"])
        interval = seed_and_user_interval(model, "calibration_error")
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 100 <= 1.0


def test_seeds_widen_the_interval_and_are_averaged() -> None:
    base = random_sample(6, users=200, requests=600)
    samples = [with_logit(base, seed, 1.5) for seed in range(3)]
    draws = UserDraws(base.user, 200)
    model = resample_model(samples, draws, ["auc"])
    values = [metrics.auc(sample.label, sample.logit) for sample in samples]
    np.testing.assert_allclose(model.whole["auc"], values)
    assert model.resampled["auc"].shape == (3, 200)
    interval = seed_and_user_interval(model, "auc")
    assert interval.value == pytest.approx(np.mean(values))
    seed_only = np.std(model.resampled["auc"].mean(axis=0))
    assert np.std(model.seed_means("auc")) > seed_only
    assert user_bootstrap(samples, resamples=200)["auc"] == interval


def test_each_resamples_seeds_are_those_drawn() -> None:
    base = random_sample(7)
    model = resample_model([with_logit(base, seed, 1.0) for seed in range(3)], UserDraws(base.user, 25), ["auc"])
    expected = [
        np.mean([model.resampled["auc"][seed, resample] for seed in drawn])
        for resample, drawn in enumerate(model.draws.seeds(3))
    ]
    np.testing.assert_allclose(model.seed_means("auc"), expected)


def test_a_model_does_not_differ_from_itself() -> None:
    sample = random_sample(0)
    logits = [sample.logit, with_logit(sample, 1, 0.5).logit]
    same = paired_difference(sample.label, sample.user, sample.request, logits, logits, resamples=40)
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_the_difference_changes_sign_with_the_order(metric: str) -> None:
    sample = random_sample(1)
    one, other = [with_logit(sample, 1, 0.3).logit], [with_logit(sample, 2, 1.0).logit]
    columns = (sample.label, sample.user, sample.request)
    forth = paired_difference(*columns, one, other, metric, resamples=99, seed=5)
    back = paired_difference(*columns, other, one, metric, resamples=99, seed=5)
    assert forth.value == pytest.approx(-back.value)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.p == back.p


def test_a_clear_difference_is_found_and_its_p_is_never_zero() -> None:
    sample = random_sample(2, users=100, requests=400)
    worse = [with_logit(sample, seed, 4.0).logit for seed in range(3)]
    found = paired_difference(sample.label, sample.user, sample.request, [sample.logit] * 3, worse, resamples=199)
    assert found.low > 0
    assert found.p == pytest.approx(2 / 200)


def test_pairing_users_makes_the_difference_sharper_than_its_parts() -> None:
    sample = random_sample(3, users=100, requests=400)
    draws = UserDraws(sample.user)
    one, other = (resample_model(with_logit(sample, seed, 0.2), draws, ["auc"]) for seed in (1, 2))
    paired = difference(one, other)
    alone = [seed_and_user_interval(model) for model in (one, other)]
    assert paired.high - paired.low < 0.5 * min(interval.high - interval.low for interval in alone)


def test_seeds_are_paired_when_equally_many_and_apart_when_not() -> None:
    sample = random_sample(4)
    draws = UserDraws(sample.user, 60)
    three = resample_model([with_logit(sample, seed, 1.0) for seed in range(3)], draws, ["auc"])
    shifted = replace(three, whole={"auc": three.whole["auc"] - 0.1}, resampled={"auc": three.resampled["auc"] - 0.1})
    constant = difference(three, shifted)
    assert (constant.low, constant.high) == pytest.approx((0.1, 0.1))
    two = resample_model([with_logit(sample, seed, 1.0) for seed in range(2)], draws, ["auc"])
    uneven = difference(three, two)
    assert uneven.low < uneven.value < uneven.high
    assert uneven.value == pytest.approx(three.value("auc") - two.value("auc"))


def test_under_no_difference_p_is_rarely_small() -> None:
    small = 0
    for trial in range(100):
        sample = random_sample(trial, users=40, requests=80)
        one, other = (with_logit(sample, 1000 * trial + side, 1.0).logit for side in (1, 2))
        found = paired_difference(sample.label, sample.user, sample.request, [one], [other], "logloss", 100, trial)
        small += found.p <= 0.05
    assert small <= 12


def test_rela_impr_between_two_models() -> None:
    sample = random_sample(5, users=100, requests=400)
    draws = UserDraws(sample.user, 100)
    model, base = resample_model(sample, draws), resample_model(with_logit(sample, 1, 1.0), draws)
    for metric in ("auc", "gauc"):
        found = rela_impr_interval(model, base, metric)
        assert found.value == metrics.rela_impr(model.value(metric), base.value(metric))
        assert found.low < found.value < found.high
    itself = rela_impr_interval(base, base)
    assert (itself.value, itself.low, itself.high) == (0.0, 0.0, 0.0)


def test_rela_impr_to_a_base_near_chance_has_no_bounds() -> None:
    sample = random_sample(5)
    draws = UserDraws(sample.user, 50)
    chance = replace(sample, logit=np.zeros(len(sample.logit)))
    found = rela_impr_interval(resample_model(sample, draws), resample_model(chance, draws))
    assert all(math.isnan(bound) for bound in (found.value, found.low, found.high))


def test_one_class_leaves_auc_undefined_and_the_rest_defined() -> None:
    found = user_bootstrap(Sample(np.zeros(4), np.zeros(4), np.arange(4), np.arange(4)), resamples=10)
    for metric in ("auc", "gauc", "gauc_by_user", "calibration_ratio"):
        assert all(math.isnan(bound) for bound in (found[metric].value, found[metric].low, found[metric].high))
    assert found["logloss"].value == pytest.approx(math.log(2))
    assert found["calibration_error"].value == pytest.approx(0.5)


def test_resamples_without_the_metric_are_left_out() -> None:
    """One user holds every positive: about a third of the resamples have none."""
    sample = sample_of([1, 0, 0, 0], [0.5, 0.0, 1.0, 0.2], [1, 2, 3, 4], [1, 2, 3, 4])
    draws = UserDraws(sample.user, 200)
    model = resample_model(sample, draws, ["auc"])
    assert 0.2 < np.isnan(model.resampled["auc"]).mean() < 0.45
    interval = seed_and_user_interval(model)
    assert interval.value == pytest.approx(2 / 3)
    assert interval.low < interval.value < interval.high


def test_of_one_user_there_is_a_value_and_no_interval() -> None:
    sample = sample_of([0, 1, 0], [0.0, 1.0, 2.0], [7, 7, 7], [1, 1, 2])
    found = user_bootstrap(sample, resamples=10)["auc"]
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(paired_difference(sample.label, sample.user, sample.request, [sample.logit], [[0, 0, 1]]).p)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": [], "logit": [], "user": [], "request": []}, "the sample is empty"),
        ({"logit": [0.0]}, r"logit has shape \(1,\), label \(3,\)"),
        ({"user": [[1, 2, 3]]}, r"user has shape \(1, 3\)"),
        ({"weight": [1.0, 1.0]}, r"weight has shape \(2,\)"),
        ({"label": [0, 1, 3]}, "label must be 0 or 1"),
        ({"logit": [0.0, np.inf, np.nan]}, "logit must be finite; 2 rows are not"),
        ({"weight": [1.0, 1.0, -1.0]}, "weight must be finite"),
    ],
)
def test_malformed_samples_are_named(changes: dict[str, list[float]], message: str) -> None:
    columns: dict[str, Any] = {
        "label": [0, 1, 0],
        "logit": [0.0, 1.0, 2.0],
        "user": [1, 1, 2],
        "request": [1, 1, 2],
    } | changes
    with pytest.raises(ValueError, match=message):
        sample_of(**columns)


def test_malformed_comparisons_are_named() -> None:
    sample = random_sample(0)
    draws = UserDraws(sample.user, 5)
    model = resample_model(sample, draws, ["auc"])
    with pytest.raises(ValueError, match="make one and share it"):
        difference(model, resample_model(sample, UserDraws(sample.user, 5), ["auc"]))
    with pytest.raises(ValueError, match=r"0 of the sample's are .* 29 of those are not in the sample"):
        resample_metrics(rows_of(sample, sample.user == 1000), draws)
    with pytest.raises(ValueError, match=r"1 of the sample's are not among the draws' 1, 0 "):
        resample_metrics(replace(sample, user=sample.user * 0 + (sample.user == 1000)), UserDraws([0]))
    fewer = rows_of(sample, np.arange(len(sample.label)) > 0)
    with pytest.raises(ValueError, match="rows differ"):
        difference(model, resample_model(fewer, draws, ["auc"]))
    with pytest.raises(ValueError, match="seeds' samples are of different rows"):
        resample_model([sample, fewer], draws)
    with pytest.raises(ValueError, match="at least one sample"):
        resample_model([], draws)
    with pytest.raises(ValueError, match="requests hold several users"):
        resample_metrics(replace(sample, request=sample.request * 0), draws)
    with pytest.raises(ValueError, match="no users"):
        UserDraws([])
    with pytest.raises(ValueError, match="resamples is 0"):
        UserDraws([1], resamples=0)


def rows_of(sample: Sample, chosen: NDArray[np.bool_]) -> Sample:
    return Sample(sample.label[chosen], sample.logit[chosen], sample.user[chosen], sample.request[chosen])
