"""A rival of following the mix: training goes on with the answers as they come in."""

import copy
from dataclasses import replace

import numpy as np
import torch

from musenet.adaptation.mix import Followed
from musenet.adaptation.walk import Period
from musenet.calibration import Calibration
from musenet.config.adaptation import AdaptOptions, FinetuneOptions
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.scoring import logits_of
from musenet.models.interface import ClickModel
from musenet.training.optimizers import Optimizers


def finetune(
    model: ClickModel,
    dataset: Dataset,
    predictions: Predictions,
    options: AdaptOptions,
    finetuning: FinetuneOptions,
    calibration: Calibration | None = None,
) -> Followed:
    """What any model answers if it takes a step of Adam on each block of answered requests.

    Args:
        model: left as it is; a copy learns.
        dataset: that the period is in.
        predictions: of the unadapted model, for labels and times.
        options: how late answers come.
        finetuning: how fast and how often it learns.
        calibration: what its answers are recalibrated by, as they were before it learned.
    """
    learner = copy.deepcopy(model)
    optimizers = Optimizers(learner, finetuning.learning_rate, finetuning.learning_rate)
    period, shown, scored = Period.of(predictions), BatchBuilder(dataset, fixed_positions=False), BatchBuilder(dataset)
    rows, answered = predictions.requests[period.requests], np.empty(len(period.candidates))
    like = next(learner.parameters())

    def predict(requests: slice) -> None:
        answered[period.candidates_of(requests)] = logits_of(learner, scored, rows[requests])

    def learn(requests: slice) -> None:
        batch = shown.build(rows[requests]).to(like.device, like.dtype)
        with torch.random.fork_rng(enabled=True):
            torch.manual_seed(requests.start)
            learner.train()
            optimizers.zero_grad()
            terms = learner.losses(learner(batch, 1.0), batch, 1.0).values()
            torch.stack([term.weight * term.value for term in terms]).sum().backward()  # type: ignore[no-untyped-call]
            optimizers.step()

    period.walk(options.answers_after, finetuning.every, learn, predict)
    logit = period.back(answered)
    return Followed(replace(predictions, logit=logit if calibration is None else calibration(logit)))
