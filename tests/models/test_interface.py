"""What a model of another package answers wrongly is said before it is trained with."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from models.test_model_contract import VARIANTS, model_of, training_batch
from musenet.dataset.dataset import Dataset
from musenet.errors import UserError
from musenet.models.interface import ClickModel, Prediction, Term, check_answer, check_terms

Answer = tuple[ClickModel, Prediction, Any]

ANSWERS: dict[str, tuple[Callable[[Prediction], Any], str]] = {
    "a tensor": (lambda found: found.logit, r"BaseModel\.forward gives a Tensor: it has to give a Prediction"),
    "a column": (lambda found: replace(found, logit=found.logit[:, None]), r"of shape \(\d+, 1\) for (\d+) .* \(\1,\)"),
    "of requests": (lambda found: replace(found, logit=found.logit[:3]), r"of shape \(3,\) for \d+ candidates of"),
    "one number": (lambda found: replace(found, logit=found.logit.mean()), r"of shape \(\) for"),
    "detached": (lambda found: replace(found, logit=found.logit.detach()), "without a gradient: .* detach"),
}
LOSSES: dict[str, tuple[Any, str]] = {
    "a tensor": (torch.zeros(()), r"BaseModel\.losses has to give a dictionary of Terms"),
    "tensors": ({"click": torch.zeros(())}, "a dictionary of Terms"),
    "not summed up": ({"click": Term(torch.zeros(7))}, r"'click' has the shape \(7,\): take its mean"),
}


@pytest.fixture
def answer(planted_dataset: Dataset) -> Answer:
    model, batch = model_of(VARIANTS["base"], planted_dataset), training_batch(planted_dataset)
    return model, model(batch), batch


@pytest.mark.parametrize("mistake", ANSWERS)
def test_what_is_no_prediction_of_the_batch_is_refused(mistake: str, answer: Answer) -> None:
    model, prediction, batch = answer
    check_answer(model, prediction, batch)
    change, said = ANSWERS[mistake]
    with pytest.raises(UserError, match=said):
        check_answer(model, change(prediction), batch)


@pytest.mark.parametrize("mistake", LOSSES)
def test_what_is_no_loss_is_refused(mistake: str, answer: Answer) -> None:
    model, prediction, batch = answer
    check_terms(model, model.losses(prediction, batch, 0.0))
    terms, said = LOSSES[mistake]
    with pytest.raises(UserError, match=said):
        check_terms(model, terms)
