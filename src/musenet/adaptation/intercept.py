"""A rival of following the mix: one number, added to every logit, follows the click rate."""

from dataclasses import replace

import numpy as np
from scipy.special import expit

from musenet.adaptation.mix import Followed
from musenet.adaptation.walk import Period
from musenet.config.adaptation import AdaptOptions
from musenet.evaluation.predictions import Predictions

STEPS = 4


def follow_intercept(predictions: Predictions, options: AdaptOptions) -> Followed:
    """What any model answers if its intercept is fitted to the answered requests, weighted by age as the mix is.

    The maximum of Σ λ log P(y | logit + b) − ridge/2 b² by Newton's method; what older requests say is kept in
    quadratic form.
    """
    period = Period.of(predictions)
    logit, label = predictions.logit[period.candidates], predictions.label[period.candidates]
    weight = np.ones(len(label)) if predictions.weight is None else predictions.weight[period.candidates]
    answered = np.empty(len(label))
    information, pull, intercept = 0.0, 0.0, 0.0

    def predict(requests: slice) -> None:
        own = period.candidates_of(requests)
        answered[own] = logit[own] + intercept

    def learn(requests: slice) -> None:
        nonlocal information, pull, intercept
        own = period.candidates_of(requests)
        seconds = period.time[requests.stop - 1] - period.time[max(requests.start - 1, 0)]
        fade = float(options.fade(requests.stop - requests.start, seconds / 1e6))
        information, pull = fade * information, fade * pull
        for _ in range(STEPS):
            chance = expit(logit[own] + intercept)
            slope, curvature = weight[own] @ (label[own] - chance), weight[own] @ (chance * (1 - chance))
            intercept = (pull + slope + curvature * intercept) / (information + curvature + options.ridge)
        chance = expit(logit[own] + intercept)
        slope, curvature = weight[own] @ (label[own] - chance), weight[own] @ (chance * (1 - chance))
        information, pull = information + curvature, pull + slope + curvature * intercept

    period.walk(options.answers_after, options.every, learn, predict)
    return Followed(replace(predictions, logit=period.back(answered)))
