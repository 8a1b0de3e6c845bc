"""What a trained model answers on a dataset's impressions."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from musenet.ahead import ahead
from musenet.config.training import TrainingOptions
from musenet.dataset.batch import Batch
from musenet.dataset.batches import on_device
from musenet.dataset.builder import BatchBuilder, part_of
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.distributed import workers
from musenet.evaluation.predictions import Floats, Integers, Predictions
from musenet.evaluation.ranking import is_of_lists, ranking_score
from musenet.metrics import auc, logloss_from_logit
from musenet.models.interface import ClickModel, Prediction

BATCH_SIZE = 16_384
"""Candidates scored at once: more is no faster, and K networks' activations must fit in memory."""


def predict(
    model: ClickModel,
    dataset: Dataset,
    split: Split,
    batch_size: int = BATCH_SIZE,
    *,
    scenario_logits: bool = False,
) -> Predictions:
    """Score every impression of a split as serving would: unseen rows untouched, positions fixed.

    Several workers share out the work, and all get the whole.

    Args:
        model: a trained model, on any device; its mode is left as it was.
        dataset: the dataset it was trained on, or one with the same fields, codes and scales.
        split: which period.
        batch_size: candidates at once.
        scenario_logits: keep each scenario's logit too, K times as many numbers.
    """
    period = dataset.manifest.splits[split]
    requests = np.arange(period.begin, period.end)
    parts: dict[str, list[Floats]] = {}
    with scoring(model) as like:
        for batch in _batches(model, like, dataset, requests, batch_size):
            for name, values in _answers(model(batch), batch, scenario_logits).items():
                parts.setdefault(name, []).append(values)
    names = ("logit", "assignment", "repeat_probability", "scenario_logit")
    gathered = {name: workers.gathered(parts.get(name, [])) for name in names}
    return _gather(dataset, requests, {name: np.concatenate(all_) for name, all_ in gathered.items() if all_})


def _answers(prediction: Prediction, batch: Batch, scenario_logits: bool) -> dict[str, Floats]:
    """What `Predictions` keeps of the model's answers to a batch, as far as the model gives it."""
    log_assignment = prediction.log_assignment
    given = {
        "logit": prediction.logit,
        "assignment": None if log_assignment is None else _per_request(log_assignment, batch),
        "repeat_probability": prediction.repeat_probability,
        "scenario_logit": prediction.scenario_logit if scenario_logits else None,
    }
    return {name: _numpy(values) for name, values in given.items() if values is not None}


def logits_of(model: ClickModel, builder: BatchBuilder, requests: Integers) -> Floats:
    """(N) logits of these requests' candidates, a few requests at once; no other worker takes part."""
    with scoring(model) as like:
        parts = np.array_split(requests, max(1, math.ceil(builder.dataset.sizes_of(requests).sum() / BATCH_SIZE)))
        batches = (builder.build(part).to(like.device, like.dtype) for part in parts if len(part))
        return np.concatenate([np.zeros(0), *(_numpy(model(batch).logit) for batch in batches)])


def validation_scores(
    model: ClickModel,
    dataset: Dataset,
    limit: int,
    split: Split = "valid",
    batch_size: int = BATCH_SIZE,
    *,
    monitor: str = "auc",
) -> dict[str, float]:
    """AUC, logloss and `monitor` on about `limit` impressions: whole requests, evenly spaced, the same every time.

    Several workers share out the work, and all get the scores.
    """
    answers: list[tuple[Floats, Floats, Integers, Floats | None]] = []
    with scoring(model) as like:
        for batch in _batches(model, like, dataset, evenly_spaced(dataset, split, limit), batch_size):
            logit = _numpy(model(batch).logit)
            weight = None if batch.weight is None else _numpy(batch.weight)
            answers.append((logit, _numpy(batch.label), batch.request.cpu().numpy(), weight))
    answers = workers.gathered(answers)
    nothing = dict.fromkeys(("auc", "logloss", monitor), float("nan"))
    if not answers:
        return nothing
    logit, label = (np.concatenate([answer[place] for answer in answers]) for place in (0, 1))
    if not np.isfinite(logit).all():
        return nothing
    weights = [weight for *_, weight in answers if weight is not None]
    counts = np.cumsum([0, *(int(request.max(initial=-1)) + 1 for _, _, request, _ in answers)])
    request = np.concatenate([one[2] + before for one, before in zip(answers, counts[:-1], strict=True)])
    return scores_of(monitor, label, logit, request, np.concatenate(weights) if weights else None)


def scores_of(monitor: str, label: Floats, logit: Floats, request: Integers, weight: Floats | None) -> dict[str, float]:
    """AUC, logloss, and what training is told to watch if it is neither, of (N) answers."""
    scores = {"auc": auc(label, logit, weight), "logloss": logloss_from_logit(label, logit, weight)}
    return scores | ({monitor: ranking_score(monitor, label, logit, request)} if is_of_lists(monitor) else {})


def evenly_spaced(dataset: Dataset, split: Split, limit: int) -> Integers:
    """Rows of about `limit` impressions' worth of requests, spread evenly over the split; all of them if they fit."""
    period = dataset.manifest.splits[split]
    requests = period.end - period.begin
    wanted = requests if period.impressions <= limit else max(1, round(requests * limit / period.impressions))
    return period.begin + np.arange(wanted, dtype=np.int64) * requests // wanted


def scoring_device(options: TrainingOptions) -> torch.device:
    """The accelerator if there is one and the options do not forbid it; a run trained on one scores without as well."""
    return torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def scoring(model: ClickModel) -> Iterator[Tensor]:
    """The model in evaluation mode without gradients; as it was afterwards.

    Yields one of its parameters, whose device and precision batches must have.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters())
    finally:
        model.train(was_training)


def _batches(model: ClickModel, like: Tensor, dataset: Dataset, requests: Integers, batch_size: int) -> Iterator[Batch]:
    """Batches of these requests, in order and where `like` is; the next one is gathered while one is scored.

    Of several workers each gets its share of the batches, in the workers' order; of few batches some get none, and
    then wait upon the others' look-ups in the model's table.
    """
    sizes = dataset.sizes_of(requests)
    batch_of = (np.cumsum(sizes) - sizes) // batch_size
    parts = [part for part in np.split(requests, np.flatnonzero(np.diff(batch_of)) + 1) if len(part)]
    shares = [parts[part_of(np.ones(len(parts)), (worker, workers.count()))] for worker in range(workers.count())]
    parts = shares[workers.rank()]
    builder = BatchBuilder(dataset, pinned=like.device.type == "cuda")
    yield from on_device(ahead(map(builder.build, parts)), like.device, like.dtype)
    model.table.stand_by(max(map(len, shares)) - len(parts))


def _gather(dataset: Dataset, requests: Integers, answers: dict[str, Floats]) -> Predictions:
    """The model's answers beside what the dataset knows of the same rows; requests are consecutive."""
    rows = dataset.candidates_between(requests[0], requests[-1] + 1) if len(requests) else slice(0, 0)
    request, shown = np.repeat(requests, dataset.sizes_of(requests)), dataset.candidates
    weight, repeats, known = shown.weight, shown.repeat_indicator, dataset.requests.true_scenario
    return Predictions(
        request=request,
        user=dataset.requests.user[request].astype(np.int64),
        item=shown.item[rows].astype(np.int64),
        time=dataset.requests.time[request].astype(np.int64),
        label=shown.label[rows].astype(np.int8),
        logit=answers.get("logit", np.zeros(0)),
        weight=None if weight is None else weight[rows].astype(np.float64),
        repeat_indicator=np.zeros(len(request), dtype=np.bool_) if repeats is None else repeats[rows].astype(np.bool_),
        requests=requests,
        assignment=answers.get("assignment"),
        repeat_probability=answers.get("repeat_probability"),
        scenario_logit=answers.get("scenario_logit"),
        true_scenario=None if known is None else known[requests].astype(np.int64),
    )


def _per_request(log_assignment: Tensor, batch: Batch) -> Tensor:
    """(R, K) probabilities; where every candidate has its own (N, K), the mean over the request's candidates."""
    probability = log_assignment.double().exp()
    if probability.shape[0] == batch.requests:
        return probability
    total = probability.new_zeros(batch.requests, probability.shape[1]).index_add_(0, batch.request, probability)
    return total / torch.bincount(batch.request, minlength=batch.requests)[:, None]


def _numpy(tensor: Tensor) -> Floats:
    return np.asarray(tensor.double().cpu().numpy())
