"""The training loop: reproducible, keeps the best weights, stops when it should, says what goes wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from torch import Tensor

from musenet.config.experiment import Experiment
from musenet.config.training import TrainingOptions
from musenet.dataset.dataset import Dataset
from musenet.dataset.writer import Arrays
from musenet.errors import RunError, TrainingDivergedError
from musenet.evaluation.scoring import predict, validation_scores
from musenet.runs.folder import RunFolder
from musenet.runs.run import load_model
from musenet.runs.tensor_files import load_tensors
from musenet.training import loop
from planted import REQUESTS, SMALL_BASE, SMALL_MUSENET, planted_experiment, write_planted
from training.trained_runs import assert_same_run, progress_of, train_into, validations_of

MODELS = {
    "base": SMALL_BASE,
    "soft": SMALL_MUSENET,
    "hard": SMALL_MUSENET | {"assignment": "hard", "harden_from": 0.3},
    "paper": SMALL_MUSENET | {"objective": "paper", "assignment": "hard"},
}


@pytest.mark.parametrize("model", list(MODELS))
def test_two_runs_from_one_seed_are_identical(model: str, planted_dataset: Dataset, tmp_path: Path):
    experiment = planted_experiment(MODELS[model], epochs=2, unseen_rate=0.1)
    for name in ("first", "second"):
        train_into(tmp_path / name, experiment, planted_dataset)
    assert_same_run(tmp_path / "first", tmp_path / "second")


def test_another_seed_gives_other_weights(planted_dataset: Dataset, tmp_path: Path):
    for seed in (1, 2):
        experiment = planted_experiment().model_copy(update={"seed": seed})
        train_into(tmp_path / str(seed), experiment, planted_dataset)
    first, second = (RunFolder(tmp_path / name).load_state()["table.weight"] for name in "12")
    assert not torch.equal(first, second)


def test_training_learns_the_planted_rule(planted_dataset: Dataset, run_path: Path):
    experiment = planted_experiment(epochs=25, patience=100, learning_rate=0.03)
    result = train_into(run_path, experiment, planted_dataset)
    assert result.best["auc"] > 0.9
    assert result.stopped == "planned steps"
    assert result.parameters > 0


class ScriptedValidation:
    """Answers with the given AUCs in turn, and remembers the weights that it saw."""

    def __init__(self, aucs: list[float]) -> None:
        self.aucs = aucs
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self, model: torch.nn.Module, *_: Any, monitor: str) -> dict[str, float]:
        self.seen.append({name: value.clone() for name, value in model.state_dict().items()})
        auc = self.aucs[len(self.seen) - 1]
        return {monitor: auc, "auc": auc, "logloss": 1 - auc}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], ScriptedValidation]:
    def begin(aucs: list[float]) -> ScriptedValidation:
        validation = ScriptedValidation(aucs)
        monkeypatch.setattr(loop, "validation_scores", validation)
        return validation

    return begin


def one_validation_per_epoch(epochs: int, model: dict[str, Any] | None = None, **training: Any) -> Experiment:
    return planted_experiment(model, epochs=epochs, validations_per_epoch=1, **training)


@pytest.mark.parametrize("monitor", ["auc", "logloss", "gauc", "recall@3"])
def test_best_weights_by_validation_are_kept_even_if_later_ones_are_worse(
    monitor: str, script: Any, planted_dataset: Dataset, run_path: Path
):
    validation = script([0.6, 0.8, 0.7, 0.75])
    result = train_into(run_path, one_validation_per_epoch(4, monitor=monitor), planted_dataset)
    assert result.best["auc"] == 0.8
    assert result.best["epoch"] == 1
    assert result.stopped == "planned steps"
    assert_kept(run_path, validation.seen[1])
    assert not torch.equal(validation.seen[1]["table.weight"], validation.seen[3]["table.weight"])


def test_what_is_watched_within_requests_is_that_of_the_kept_weights(planted_dataset: Dataset, run_path: Path):
    experiment = planted_experiment(epochs=2, monitor="ndcg@3", validation_impressions=10**9)
    best = train_into(run_path, experiment, planted_dataset).best
    answers = predict(load_model(RunFolder(run_path)), planted_dataset, "valid")
    gains = [
        ndcg_score([answers.label[of]], [answers.logit[of]], k=3)
        for of in (answers.request == request for request in np.unique(answers.request))
        if answers.label[of].any() and of.sum() > 1
    ]
    assert best["ndcg@3"] == pytest.approx(np.mean(gains), abs=1e-6)
    assert set(best) == {"step", "epoch", "auc", "logloss", "ndcg@3"}


def assert_kept(path: Path, weights: dict[str, Tensor]) -> None:
    kept = RunFolder(path).load_state()
    assert [name for name, value in kept.items() if not torch.equal(value, weights[name])] == []


def test_patience_ends_training_and_keeps_the_best(script: Any, planted_dataset: Dataset, run_path: Path):
    validation = script([0.7, 0.8, 0.79, 0.8, 0.6])
    result = train_into(run_path, one_validation_per_epoch(9, patience=3), planted_dataset)
    assert result.stopped == "no better auc in 3 validations"
    assert len(validation.seen) == 5
    assert result.best["epoch"] == 1
    assert_kept(run_path, validation.seen[1])


def test_a_better_validation_renews_patience(script: Any, planted_dataset: Dataset, run_path: Path):
    validation = script([0.7, 0.6, 0.8, 0.6, 0.5])
    train_into(run_path, one_validation_per_epoch(9, patience=2), planted_dataset)
    assert len(validation.seen) == 5
    assert_kept(run_path, validation.seen[2])


def test_any_number_beats_a_validation_that_gave_none(script: Any, planted_dataset: Dataset, run_path: Path):
    validation = script([float("nan"), 0.4, 0.5, 0.3])
    result = train_into(run_path, one_validation_per_epoch(4, patience=9), planted_dataset)
    assert result.best["auc"] == 0.5
    assert_kept(run_path, validation.seen[2])


def test_hard_keeps_only_hardened_weights(script: Any, planted_dataset: Dataset, run_path: Path):
    validation = script([0.9, 0.8, 0.6, 0.7, 0.65])
    model = SMALL_MUSENET | {"assignment": "hard", "harden_from": 0.4}
    result = train_into(run_path, one_validation_per_epoch(5, model, patience=9), planted_dataset)
    assert result.best["auc"] == 0.7
    assert_kept(run_path, validation.seen[3])


def test_validations_before_hardening_do_not_use_up_patience(script: Any, planted_dataset: Dataset, run_path: Path):
    validation = script([0.9, 0.8, 0.7, 0.6, 0.5])
    model = SMALL_MUSENET | {"assignment": "hard", "harden_from": 0.7}
    result = train_into(run_path, one_validation_per_epoch(5, model, patience=1), planted_dataset)
    assert len(validation.seen) == 5
    assert result.best["auc"] == 0.6


def test_kept_weights_score_what_the_result_says(planted_dataset: Dataset, run_path: Path):
    result = train_into(run_path, planted_experiment(epochs=6, learning_rate=0.05), planted_dataset)
    model, dataset = load_model(RunFolder.open(run_path)), RunFolder.open(run_path).dataset
    scores = validation_scores(model, dataset, limit=500_000)
    assert scores == {name: result.best[name] for name in ("auc", "logloss")}
    assert result.best["auc"] == max(entry["valid"]["auc"] for entry in validations_of(run_path))


def test_reports_hold_every_term_and_the_signs_of_health(planted_dataset: Dataset, run_path: Path):
    told: list[dict[str, Any]] = []
    train_into(run_path, planted_experiment(epochs=2), planted_dataset, log=told.append)
    written = RunFolder(run_path).metrics()[0]
    assert [entry for entry in told if "valid" in entry] == [entry for entry in written if "valid" in entry]
    losses = [entry["losses"] for entry in written if "losses" in entry]
    assert losses
    assert all(set(entry) == set(losses[0]) >= {"click", "auxiliary", "balance", "entropy"} for entry in losses)
    health = validations_of(run_path)[-1]["health"]
    assert {"mean_max_probability", "entropy_of_use", "prototype_spread", "expansion", "share_2"} <= set(health)
    assert health["share_0"] + health["share_1"] + health["share_2"] == pytest.approx(1)
    last = [entry for entry in told if "losses" in entry][-1]
    assert last["step"] == last["planned"]
    assert last["seconds_to_go"] == 0
    assert last["samples_per_second"] > 0


@pytest.mark.parametrize(
    ("changes", "warning"),
    [({"scale": 1e-6}, "melted"), ({"scale": 1e6, "balance": 0}, "one scenario takes nearly everything")],
)
def test_scenarios_in_bad_health_are_warned_about(
    changes: dict[str, Any], warning: str, planted_dataset: Dataset, run_path: Path, monkeypatch: pytest.MonkeyPatch
):
    init = loop.Trainer.__init__

    def with_one_prototype_near(self: loop.Trainer, *args: Any) -> None:
        """The others so far away that, unless the scale melts all, nothing is ever assigned to them."""
        init(self, *args)
        self.model.get_parameter("assigner.centres").data = torch.tensor([[0.0], [100.0], [-100.0]]).repeat(1, 4)

    monkeypatch.setattr(loop.Trainer, "__init__", with_one_prototype_near)
    train_into(run_path, planted_experiment(SMALL_MUSENET | changes), planted_dataset)
    warnings = [text for entry in validations_of(run_path) for text in entry["warnings"]]
    assert any(warning in text for text in warnings)


def test_healthy_scenarios_are_not_warned_about(planted_dataset: Dataset, run_path: Path):
    train_into(run_path, planted_experiment(SMALL_MUSENET | {"scale": "auto"}), planted_dataset)
    assert [text for entry in validations_of(run_path) for text in entry["warnings"]] == []


def poisoned(folder: Path) -> Dataset:
    """One training request whose hour is not a number."""
    hours = np.zeros(sum(REQUESTS.values()), dtype=np.float32)
    hours[17] = np.nan
    return write_planted(folder, changes=Arrays(requests={"hours": hours}))


@pytest.mark.parametrize("model", list(MODELS))
def test_a_loss_that_is_no_number_stops_training_and_saves_the_batch(model: str, tmp_path: Path):
    dataset, path = poisoned(tmp_path / "dataset"), tmp_path / "run"
    with pytest.raises(TrainingDivergedError, match="no longer a number at step") as caught:
        train_into(path, planted_experiment(MODELS[model]), dataset)
    tensors, description = load_tensors(path / "diverged.safetensors")
    assert 17 in tensors["requests"].tolist()
    assert "click" in description["terms"]
    assert f"step {description['step']} " in str(caught.value)
    assert not (path / "training.json").exists()
    assert ("lower training.learning_rate" in str(caught.value)) == (description["step"] != "0")


def test_an_absurd_learning_rate_is_found_out(planted_dataset: Dataset, run_path: Path):
    with pytest.raises(TrainingDivergedError, match=r"lower training\.learning_rate"):
        train_into(run_path, planted_experiment(learning_rate=1e30, epochs=4), planted_dataset)
    description = load_tensors(run_path / "diverged.safetensors")[1]
    assert int(description["step"]) >= 1


def test_weights_of_impressions_change_what_is_learned(planted_dataset: Dataset, tmp_path: Path):
    weighted = write_planted(tmp_path / "weighted", weighted=True)
    for name, dataset in (("plain", planted_dataset), ("weighted", weighted)):
        train_into(tmp_path / name, planted_experiment(), dataset)
    plain, other = (RunFolder(tmp_path / name).load_state()["table.weight"] for name in ("plain", "weighted"))
    assert not torch.allclose(plain, other)


@pytest.mark.parametrize(
    ("asked", "batch_size", "expected"), [(None, 128, 1), (None, 2048, 2), (None, 65536, 3), (2, 128, 2), (5, 128, 5)]
)
def test_threads_have_enough_to_do(asked: int | None, batch_size: int, expected: int, monkeypatch: pytest.MonkeyPatch):
    """Whatever there were before are there again; more than these only if asked for."""
    had = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: had[-1])
    monkeypatch.setattr(torch, "set_num_threads", had.append)
    with loop.threads_for(TrainingOptions(threads=asked, batch_size=batch_size)):
        assert had[-1] == expected
    assert had[-1] == 3


def test_checkpoints_are_written_on_the_way(planted_dataset: Dataset, run_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps: list[int] = []
    save = loop.save_checkpoint  # type: ignore[attr-defined]

    def saved(*args: Any) -> None:
        steps.append(args[3].step)
        save(*args)

    monkeypatch.setattr(loop, "save_checkpoint", saved)
    train_into(run_path, planted_experiment(epochs=2, checkpoint_every=4), planted_dataset)
    last = progress_of(run_path)["step"]
    assert steps == [*range(4, last + 1, 4), last]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(planted_dataset: Dataset, run_path: Path):
    with pytest.raises(RunError, match="finds no CUDA device"):
        train_into(run_path, planted_experiment(device="cuda"), planted_dataset)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", list(MODELS))
def test_trains_resumes_and_scores_on_cuda(model: str, planted_dataset: Dataset, run_path: Path):
    experiment = planted_experiment(MODELS[model], device="cuda", epochs=2)
    result = train_into(run_path, experiment, planted_dataset)
    assert 0 <= result.best["auc"] <= 1
    train_into(run_path, experiment, planted_dataset, resume=True)
    on_cpu, dataset = load_model(RunFolder.open(run_path)), RunFolder.open(run_path).dataset
    assert validation_scores(on_cpu, dataset, 500_000)["logloss"] == pytest.approx(result.best["logloss"], abs=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_what_the_cpu_learns(planted_dataset: Dataset, tmp_path: Path):
    for device in ("cpu", "cuda"):
        train_into(tmp_path / device, planted_experiment(device=device), planted_dataset)
    first, second = (RunFolder(tmp_path / device).load_state() for device in ("cpu", "cuda"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-3, rtol=1e-3)
