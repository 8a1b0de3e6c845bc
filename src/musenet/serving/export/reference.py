"""Writing down what a run's periods looked like, for `musenet drift`."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.batch import Batch
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Field
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import resample_model, seed_and_user_interval
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.scoring import evenly_spaced
from musenet.models.musenet.adaptation import believed
from musenet.runs.run import Run
from musenet.serving.drift.moves import Answered, bent
from musenet.serving.drift.reference import METRICS, REPEATS, Reference
from musenet.serving.drift.stability import Column, Side, columns_of, with_bins

IMPRESSIONS = 200_000
"""Of a period, about so many tell how its columns are distributed."""
REQUESTS_AT_ONCE = 4096
RESAMPLES = 200
Codes = NDArray[np.int64]
Numbers = NDArray[np.float32]


def reference_of(run: Run) -> Reference | None:
    """What a run's training and validation looked like; None without a validation of both labels."""
    dataset = run.dataset
    valid = dataset.manifest.splits["valid"]
    if not valid.impressions or not 0 < run.predictions("valid").label.mean() < 1:
        return None
    answers = run.predictions_on(dataset, "valid", scenario_logits=True)
    answered = answered_of(answers)
    measured = resample_model(answers.sample(), UserDraws(answers.user, RESAMPLES), METRICS)
    trained_on = evenly_spaced(dataset, "train", IMPRESSIONS)
    return Reference(
        users=len(np.unique(dataset.requests.user[trained_on])),
        columns=_columns(dataset, trained_on),
        impressions=len(answers.label),
        figures={name: seed_and_user_interval(measured, name) for name in METRICS},
        share=np.exp(answered.log_assignment).mean(0).tolist(),
        requests=len(answered.sizes),
        answers=bent(answered),
    )


def answered_of(predictions: Predictions) -> Answered:
    """A period's answers; what has no scenarios of its own has one."""
    shown, first, sizes = np.unique(predictions.place, return_index=True, return_counts=True)
    assignment, scenario_logit = predictions.assignment, predictions.scenario_logit
    if assignment is None or scenario_logit is None:
        assignment, scenario_logit = np.ones((len(predictions.requests), 1)), predictions.logit[:, None]
    return Answered(
        log_assignment=believed(assignment[shown]),
        scenario_logit=scenario_logit,
        label=predictions.label.astype(np.float64),
        sizes=sizes,
        user=predictions.user[first],
    )


def _columns(dataset: Dataset, trained_on: NDArray[np.int64]) -> list[Column]:
    """Every column with its bins in training, and its unseen share in validation."""
    found: list[Column] = []
    training, validation = (
        [*_encoded(dataset, rows)] for rows in (trained_on, evenly_spaced(dataset, "valid", IMPRESSIONS))
    )
    sides: dict[Side, list[Field]] = {
        "request": [*dataset.fields("user", "context")],
        "candidate": [*dataset.fields("item", "candidate")],
    }
    for side, fields in sides.items():
        dense = sum(field.kind == "dense" for field in fields)
        before, now = ([_of_side(batch, side, dense) for batch in batches] for batches in (training, validation))
        codes, numbers = (np.concatenate([each[place] for each in before]) for place in (0, 1))
        newer = np.concatenate([each[0] for each in now])
        ids = {field.name for field in fields if field.is_id}
        for column in columns_of(fields, side, dict(dataset.embedding_offset)):
            binned = with_bins(column, codes, numbers, of_ids=column.name in ids)
            unseen, values = binned.unseen_in(newer) if binned.edges is None else (0, 0)
            found.append(binned.model_copy(update={"unseen_share": unseen / max(values, 1)}))
        if side == "candidate" and dataset.manifest.has_repeats:
            repeats = Column(name=REPEATS, side=side, place=dense, edges=[0.5])
            found.append(repeats.model_copy(update={"counts": repeats.binned(codes, numbers).tolist()}))
    return found


def _encoded(dataset: Dataset, requests: NDArray[np.int64]) -> Iterator[Batch]:
    builder = BatchBuilder(dataset)
    for begin in range(0, len(requests), REQUESTS_AT_ONCE):
        yield builder.build(requests[begin : begin + REQUESTS_AT_ONCE])


def _of_side(batch: Batch, side: Side, dense: int) -> tuple[Codes, Numbers]:
    """Embedding rows and the columns' numbers; those of a candidate end with whether it repeats something."""
    rows = batch.rows.numpy()
    if side == "request":
        return rows[batch.request_codes.numpy()], batch.request_dense[:, :dense].numpy()
    indicator = batch.repeat_features[:, :1].numpy()
    return rows[batch.candidate_codes.numpy()], np.concatenate(
        [batch.candidate_dense[:, :dense].numpy(), indicator], axis=1
    )
