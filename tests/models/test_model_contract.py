"""What every model promises, whatever its options: one suite over all of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.metrics import auc
from musenet.models.interface import ClickModel
from musenet.models.layers import set_dropout
from musenet.models.musenet.model import Musenet
from musenet.models.registry import MODELS, AnyModelOptions, build_model, model_type
from musenet.runs.folder import RunFolder
from musenet.runs.run import load_model
from musenet.training.optimizers import Optimizers
from planted import REQUESTS, SMALL_BASE, SMALL_MUSENET, planted_experiment, write_planted

VARIANTS: dict[str, dict[str, Any]] = {
    "base": SMALL_BASE,
    "base-without-repeats": SMALL_BASE | {"repeat_features": False},
    "soft": SMALL_MUSENET,
    "hard": SMALL_MUSENET | {"assignment": "hard"},
    "gate": SMALL_MUSENET | {"assignment": "gate"},
    "uniform": SMALL_MUSENET | {"assignment": "uniform"},
    "permuted": SMALL_MUSENET | {"assignment": "permuted"},
    "predefined": SMALL_MUSENET | {"assignment": "predefined"},
    "true": SMALL_MUSENET | {"assignment": "true"},
    "paper-soft": SMALL_MUSENET | {"objective": "paper"},
    "paper-hard": SMALL_MUSENET | {"objective": "paper", "assignment": "hard"},
    "score": SMALL_MUSENET | {"form": "score"},
    "probability": SMALL_MUSENET | {"form": "probability"},
    "plain": SMALL_MUSENET | {"form": "plain"},
    "one-scenario": SMALL_MUSENET | {"scenarios": 1},
    "wide": SMALL_MUSENET | {"scenarios": 1, "parameters_of": 3},
    "scale-auto": SMALL_MUSENET | {"scale": "auto"},
    "prototypes-by-eq-14": SMALL_MUSENET | {"prototypes": "posterior"},
    "mixture": SMALL_MUSENET | {"likelihood": "mixture"},
    "bound": SMALL_MUSENET | {"likelihood": "bound"},
    "crosses": SMALL_MUSENET | {"cross_layers": 2},
    "plain-whole-crosses": SMALL_MUSENET | {"form": "plain", "cross_layers": 1},
    "nothing-shared": SMALL_MUSENET | {"shared_score": False},
    "plain-nothing-shared": SMALL_MUSENET | {"form": "plain", "shared_score": False},
    "late-confidence": SMALL_MUSENET | {"confidence": 0.02},
    "base-attention": SMALL_BASE | {"history_encoder": "attention"},
    "soft-attention": SMALL_MUSENET | {"history_encoder": "attention"},
    "small-intention": SMALL_MUSENET | {"intention_hidden": [3]},
    "wide-small-intention": SMALL_MUSENET | {"scenarios": 1, "parameters_of": 3, "intention_hidden": [3]},
    "soft-numbers": SMALL_MUSENET | {"numbers": "embedded"},
    "din-numbers": SMALL_BASE | {"name": "din", "attention_hidden": 8, "numbers": "embedded"},
    "wide-deep": SMALL_BASE | {"name": "wide_deep"},
    "deepfm": SMALL_BASE | {"name": "deepfm"},
    "ncf": SMALL_BASE | {"name": "ncf", "factors": 8},
    "din": SMALL_BASE | {"name": "din", "attention_hidden": 8},
    "din-prelu": SMALL_BASE | {"name": "din", "attention_hidden": 8, "activation": "prelu"},
    "repeatnet": SMALL_BASE | {"name": "repeatnet", "encoder": 8},
    "dcn": SMALL_BASE | {"name": "dcn_v2"},
    "dcn-parallel-low-rank": SMALL_BASE | {"name": "dcn_v2", "structure": "parallel", "low_rank": 4},
    "auto": SMALL_MUSENET | {"scenarios": "auto", "pruning": {"start": 5}},
    "without-ids": SMALL_MUSENET | {"ids": []},
    "base-match": SMALL_BASE | {"history_encoder": "attention", "ids": {"user": False, "item": "match"}},
    "din-match": SMALL_BASE | {"name": "din", "attention_hidden": 8, "ids": {"user": True, "item": "match"}},
    "ple": {"name": "ple", "embedding": 4, "hidden": [12, 8], "tower": [6], "own_experts": 2},
    "revman": {"name": "revman", "embedding": 4, "hidden": [12, 8], "tower": [6]},
    "adaptdhm": {"name": "adaptdhm", "embedding": 4, "hidden": [12, 8], "clusters": 3},
    "star": {"name": "star", "embedding": 4, "hidden": [12, 8], "auxiliary": [6]},
    "sarnet": {"name": "sarnet", "embedding": 4, "hidden": [12, 8], "own_experts": 2, "attention_hidden": 6},
    "treems": {"name": "treems", "embedding": 4, "hidden": [12, 8], "tower": [6], "experts": 3},
    "atrank": {"name": "atrank", "embedding": 4, "hidden": [12], "spaces": 2, "units": 4},
    "hifn": {"name": "hifn", "embedding": 4, "hidden": [12], "units": 8, "recent": 3},
}
NETWORKS = {name for name, model in MODELS.items() if model.options_type(name=name).by_gradient}
LOOKS_AT_NEIGHBOURS = {"permuted"}
every_variant = pytest.mark.parametrize("variant", list(VARIANTS))


def new_model(variant: str, dataset: Dataset) -> ClickModel:
    return model_of(VARIANTS[variant], dataset)


def model_of(content: dict[str, Any], dataset: Dataset) -> ClickModel:
    torch.manual_seed(1)
    options = TypeAdapter(AnyModelOptions).validate_python(content)  # type: ignore[var-annotated]
    return build_model(options, schema_of(dataset))


def batch_of(dataset: Dataset, requests: Any) -> Batch:
    return BatchBuilder(dataset).build(np.asarray(requests, dtype=np.int64))


def training_batch(dataset: Dataset) -> Batch:
    return batch_of(dataset, np.arange(REQUESTS["train"]))


def logits(model: ClickModel, batch: Batch) -> Tensor:
    model.eval()
    with torch.inference_mode():
        return model(batch).logit


def train_on(
    model: ClickModel, batch: Batch, steps: int, rate: float = 0.03, enough: Callable[[], bool] = lambda: False
) -> None:
    """So many steps, or fewer if after a multiple of 25 they are enough."""
    optimizers = Optimizers(model, rate, rate)
    for step in range(steps):
        if step and step % 25 == 0 and enough():
            return
        model.train()
        progress = step / steps
        optimizers.zero_grad()
        prediction = model(batch, progress)
        terms = model.losses(prediction, batch, progress).values()
        torch.stack([term.weight * term.value for term in terms]).sum().backward()
        optimizers.step()
        model.after_step(prediction, batch, progress)


def backward(model: ClickModel, batch: Batch, progress: float = 1.0) -> None:
    model.train()
    terms = model.losses(model(batch, progress), batch, progress).values()
    torch.stack([term.weight * term.value for term in terms]).sum().backward()


def test_every_registered_model_is_among_the_variants():
    assert {options["name"] for options in VARIANTS.values()} == NETWORKS
    assert set(MODELS) - NETWORKS == {"lightgbm"}  # see baselines/test_boosted_trees.py


def test_every_registered_model_is_found_where_its_line_says():
    assert all(model_type(name).options_type is model.options_type for name, model in MODELS.items())


@every_variant
def test_options_know_the_columns_of_the_table(variant: str, planted_dataset: Dataset):
    """Comparisons count the parameters outside the table by them, without loading a model."""
    options = TypeAdapter(AnyModelOptions).validate_python(VARIANTS[variant])  # type: ignore[var-annotated]
    assert new_model(variant, planted_dataset).table.weight.shape[1] == options.table_columns


@pytest.mark.slow
@every_variant
def test_overfits_the_planted_table(variant: str, planted_dataset: Dataset):
    model, batch = new_model(variant, planted_dataset), training_batch(planted_dataset)

    def reached() -> float:
        return auc(batch.label.numpy(), logits(model, batch).numpy())

    before = reached()
    # What scenarios learn changes in the course of training: theirs goes to its end.
    train_on(model, batch, steps=150, enough=lambda: not isinstance(model, Musenet) and reached() > 0.99)
    if variant in LOOKS_AT_NEIGHBOURS:  # permuted when scoring: what it learned shows under its own assignments
        unpermuted = new_model("soft", planted_dataset)
        unpermuted.load_state_dict(model.state_dict())
        model = unpermuted
    after = reached()
    assert before < 0.8
    assert after > 0.99


@every_variant
def test_a_batch_of_one_request_with_one_candidate_trains_and_scores(variant: str, planted_dataset: Dataset):
    sizes = np.diff(planted_dataset.requests.candidate_offset)
    batch = batch_of(planted_dataset, np.flatnonzero(sizes == 1)[:1])
    assert (batch.requests, batch.candidates) == (1, 1)
    model = new_model(variant, planted_dataset)
    before = logits(model, batch)
    train_on(model, batch, steps=3)
    after = logits(model, batch)
    assert torch.isfinite(after).all()
    assert after != before


@every_variant
def test_users_without_history_bring_no_nan(variant: str, planted_dataset: Dataset):
    empty = np.flatnonzero(np.isnan(planted_dataset.requests.repeat_fraction))[:4]
    batch = batch_of(planted_dataset, empty)
    assert len(batch.history_codes) == 0
    model = new_model(variant, planted_dataset)
    train_on(model, batch, steps=3)
    assert torch.isfinite(logits(model, batch)).all()
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


@every_variant
def test_products_in_bfloat16_change_logits_and_losses_little(variant: str, planted_dataset: Dataset):
    model, batch = new_model(variant, planted_dataset), training_batch(planted_dataset)
    torch.manual_seed(2)
    exact = model(batch)
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = model(batch)
    torch.testing.assert_close(coarse.logit.float(), exact.logit, rtol=0.05, atol=0.05)
    assert not torch.equal(coarse.logit.float(), exact.logit)
    expected, losses = model.losses(exact, batch, 1.0), model.losses(coarse, batch, 1.0)
    for name, term in losses.items():
        assert term.value.dtype == torch.float32
        torch.testing.assert_close(term.value, expected[name].value, rtol=0.02, atol=0.02)
    torch.stack([term.weight * term.value for term in losses.values()]).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_variant
def test_dropout_leaves_out_units_in_training_alone(variant: str, planted_dataset: Dataset):
    batch = batch_of(planted_dataset, np.arange(8))
    model, other = (new_model(variant, planted_dataset) for _ in range(2))
    set_dropout(other, 0.5)
    assert torch.equal(logits(other, batch), logits(model, batch))
    answers = []
    for one in (model, other):
        torch.manual_seed(2)
        answers.append(one.train()(batch).logit)
    assert not torch.equal(answers[0], answers[1])


@pytest.fixture(scope="module")
def wider_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("wider") / "dataset", width=6)


@every_variant
def test_padding_of_multi_valued_fields_changes_nothing(variant: str, planted_dataset: Dataset, wider_dataset: Dataset):
    model, wider = new_model(variant, planted_dataset), new_model(variant, wider_dataset)
    wider.load_state_dict(model.state_dict())
    batch, padded = training_batch(planted_dataset), training_batch(wider_dataset)
    assert padded.candidate_codes.shape[1] == batch.candidate_codes.shape[1] + 3
    torch.testing.assert_close(logits(wider, padded), logits(model, batch), atol=1e-6, rtol=0)


@every_variant
def test_layout_of_the_batch_changes_nothing(variant: str, planted_dataset: Dataset):
    """Rows that nothing uses, and the order of the distinct rows."""
    model, batch = new_model(variant, planted_dataset), training_batch(planted_dataset)
    size = len(batch.rows)
    place = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(size - 1)])
    other = replace(
        batch,
        rows=torch.cat([batch.rows[place.argsort()], batch.rows[1:4]]),
        request_codes=place[batch.request_codes],
        candidate_codes=place[batch.candidate_codes],
        history_codes=place[batch.history_codes],
    )
    torch.testing.assert_close(logits(model, other), logits(model, batch), atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in LOOKS_AT_NEIGHBOURS])
def test_a_requests_answer_does_not_depend_on_its_neighbours(variant: str, planted_dataset: Dataset):
    model = new_model(variant, planted_dataset)
    train_on(model, training_batch(planted_dataset), steps=3)
    requests = np.array([70, 63, 75, 99, 61])
    together = batch_of(planted_dataset, requests)
    answers = logits(model, together)
    for place, request in enumerate(requests):
        alone = logits(model, batch_of(planted_dataset, [request]))
        torch.testing.assert_close(answers[together.request == place], alone, atol=1e-6, rtol=0)


def test_permuted_assignments_come_from_neighbours(planted_dataset: Dataset):
    permuted, soft = (new_model(variant, planted_dataset).eval() for variant in ("permuted", "soft"))
    batch = batch_of(planted_dataset, [70, 63, 75])
    own, given = soft(batch).log_assignment, permuted(batch).log_assignment
    torch.testing.assert_close(given, own[[2, 0, 1]])
    torch.testing.assert_close(permuted.train()(batch).log_assignment, soft.train()(batch).log_assignment)


@every_variant
def test_saved_and_loaded_it_gives_identical_logits(variant: str, planted_dataset: Dataset, run_path: Path):
    model, batch = new_model(variant, planted_dataset), training_batch(planted_dataset)
    train_on(model, batch, steps=3)
    RunFolder.create(run_path, planted_experiment(VARIANTS[variant]), planted_dataset).save_model(model.state_dict())
    loaded, experiment = load_model(RunFolder.open(run_path)), RunFolder.open(run_path).experiment
    assert experiment.model.model_dump(include=set(VARIANTS[variant])) == _in_full(VARIANTS[variant])
    assert torch.equal(logits(loaded, batch), logits(model, batch))


def _in_full(options: dict[str, Any]) -> dict[str, Any]:
    defaults = {
        "metric_space": {"inputs": ["profile", "context", "history"]},
        "pruning": {"begin": 0.3, "end": 0.65, "least_use": 0.025},
    }
    return options | {part: defaults[part] | options[part] for part in defaults if part in options}


@every_variant
@pytest.mark.parametrize("progress", [0.1, 1.0])
def test_gradients_flow_to_everything_that_learns(variant: str, progress: float, planted_dataset: Dataset):
    model = new_model(variant, planted_dataset)
    backward(model, training_batch(planted_dataset), progress)
    learning = {id(p): p for group in model.parameter_groups() for p in group.parameters}
    names = {name for name, p in model.named_parameters() if id(p) in learning}
    idle = [name for name in names if not bool((learning_gradient(model, name) != 0).any())]
    rests = variant == "hard" and progress == 1.0  # once it hardens, the metric space stays as it is
    assert {name.split(".")[0] for name in idle} == ({"metric_space", "assigner"} if rests else set())
    by_eq_14 = {"assigner.centres"} if variant in ("paper-soft", "paper-hard", "prototypes-by-eq-14") else set()
    assert set(dict(model.named_parameters())) - names == {"table.weight"} | by_eq_14
    assert model.table.values is not None
    assert model.table.values.grad is not None
    assert bool((model.table.values.grad[1:] != 0).any(1).float().mean() > 0.3)


def learning_gradient(model: ClickModel, name: str) -> Tensor:
    gradient = model.get_parameter(name).grad
    return torch.zeros(1) if gradient is None else gradient


@every_variant
def test_every_dense_parameter_is_in_one_group(variant: str, planted_dataset: Dataset):
    model = new_model(variant, planted_dataset)
    grouped = [id(p) for group in model.parameter_groups() for p in group.parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters() if p.requires_grad}
    assert id(model.table.weight) not in grouped


@pytest.mark.parametrize("variant", ["soft", "hard", "paper-soft", "paper-hard", "scale-auto"])
def test_state_dict_holds_prototypes_and_scale(variant: str, planted_dataset: Dataset):
    model = new_model(variant, planted_dataset)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    train_on(model, training_batch(planted_dataset), steps=2)
    state = model.state_dict()
    assert state["assigner.centres"].shape == (3, 4)
    assert not torch.equal(state["assigner.centres"], start["assigner.centres"])
    assert bool(state["assigner.scale"] > 0)
    assert (state["assigner.scale"] != start["assigner.scale"]) == (variant == "scale-auto")


@every_variant
def test_predictions_are_consistent(variant: str, planted_dataset: Dataset):
    model, batch = new_model(variant, planted_dataset).eval(), training_batch(planted_dataset)
    prediction = model(batch)
    assert prediction.logit.shape == (batch.candidates,)
    if not isinstance(model, Musenet):
        return
    samples = batch.candidates if VARIANTS[variant].get("objective") == "paper" else batch.requests
    assert prediction.log_assignment.shape == (samples, model.scenarios)
    torch.testing.assert_close(prediction.log_assignment.exp().sum(1), torch.ones(samples))
    assert prediction.scenario_logit.shape == (batch.candidates, model.scenarios)
    if VARIANTS[variant].get("form") == "plain":
        assert prediction.repeat_probability is None
    else:
        assert prediction.repeat_probability.shape == (batch.requests, model.scenarios)
        assert bool(((prediction.repeat_probability > 0) & (prediction.repeat_probability < 1)).all())


def test_repeat_features_are_seen_only_if_asked(planted_dataset: Dataset):
    batch = training_batch(planted_dataset)
    changed = replace(batch, repeat_features=batch.repeat_features + 1)
    sees, blind = (new_model(variant, planted_dataset) for variant in ("base", "base-without-repeats"))
    assert not torch.allclose(logits(sees, changed), logits(sees, batch))
    assert torch.equal(logits(blind, changed), logits(blind, batch))


@pytest.mark.parametrize("variant", ["base-match", "din-match"])
def test_an_id_that_is_only_matched_moves_nothing_but_the_weights_of_events(variant: str, planted_dataset: Dataset):
    """Without a history that holds events, no item's id matters; with one, it does."""
    model, batch = new_model(variant, planted_dataset), batch_of(planted_dataset, np.arange(40))
    model.eval()
    train_on(model, training_batch(planted_dataset), steps=5)
    schema = schema_of(planted_dataset)
    assert schema.candidate_fields[0].name == "item_id"
    codes = batch.candidate_codes.clone()
    codes[:, 0] = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0)), 0]
    change = (logits(model, replace(batch, candidate_codes=codes)) - logits(model, batch)).abs()
    empty = (batch.history_offset.diff() == 0)[batch.request]
    assert empty.any()
    assert change[empty].max() == 0
    assert (change[~empty] > 0).float().mean() > 0.5
