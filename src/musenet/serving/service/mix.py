"""Following the mix of scenarios while serving: P(c) learned from the answers to what was shown.

A scored request waits in the history store until its answer counts; then it is learned from together with others, once,
by whichever server comes to it, as `adaptation.mix` does offline.

Shapes: R requests, N candidates, K scenarios.
"""

import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from musenet.config.adaptation import AdaptOptions
from musenet.dataset.roles import MICROSECONDS
from musenet.errors import ExportError
from musenet.models.musenet.adaptation import believed
from musenet.models.musenet.following import Adaptation, AdaptationState, Answers, FollowedPrediction
from musenet.serving.scorer.messages import Message, ScoreRequest
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import microseconds
from musenet.serving.store.mix import MixStore, Shown
from musenet.serving.values import text_of_value

AHEAD = 300.0
"""Seconds that a request or an event may lie in the future: clocks differ."""
MOMENTS = 200
"""How many blocks of answered requests are remembered for a picture."""
FOLLOWED = ("scenario_logit", "log_assignment")


class MixMoment(BaseModel):
    """The mix when a block of answered requests was learned from."""

    time: float = Field(description="of the last of them, in seconds since 1970")
    trained: list[float] = Field(description="mean share of each scenario by the model as trained")
    followed: list[float] = Field(description="by the mix that was in use")
    trust: float = Field(description="weight of the followed mix in what was answered, by how well it did")


class MixState(BaseModel):
    """What a store keeps of a model's mix."""

    learned: AdaptationState | None = None
    frozen: bool = False
    moments: list[MixMoment] = []


class MixAnswer(BaseModel):
    """The mix of scenarios that is followed."""

    following: bool = Field(description="whether the service was started with --adapt")
    frozen: bool = Field(False, description="whether it stays as it is")
    model: str
    answered: int = Field(0, description="requests that were learned from")
    log_weight: list[float] | None = Field(None, description="log w of each scenario; 0 as trained")
    temperature: float | None = Field(None, description="t; 1 as trained")
    level: float | None = Field(None, description="b, added to every logit; 0 as trained")
    trust: float | None = Field(None, description="weight of the followed mix in what is answered")
    moments: list[MixMoment] = Field([], description="the last blocks of answered requests, oldest first")


class MixChange(Message):
    """Whether the mix stays as it is."""

    frozen: Annotated[bool, Field(strict=True)]


class FollowedMix:
    """Scores while following the mix of one export's scenarios.

    Args:
        scorer: of the export.
        store: keeps what waits and what was learned; other models' is forgotten.
        options: how quickly, and how late answers count.

    Raises:
        ExportError: if the model has no scenarios whose mix could be followed.
    """

    def __init__(self, scorer: Scorer, store: MixStore, options: AdaptOptions) -> None:
        self._scenarios = scorer.manifest.scenarios or 1
        if self._scenarios < 2 or not scorer.runtime.explains(*FOLLOWED):
            raise ExportError(
                f"{scorer.folder} mixes no scenarios, so there is no mix to follow: serve without --adapt"
            )
        self._scorer, self._store, self._options, self._model = scorer, store, options, scorer.version
        self._last: tuple[str | None, MixState] = (None, MixState())
        store.keep_only(self._model)

    def score(self, request: ScoreRequest) -> dict[str, Any]:
        """As `Scorer.score`, by the mix so far; the answer's `request` is the id that events answer it by."""
        now, scorer = time.time(), self._scorer
        when = now if request.time is None else request.time
        lies_ahead = when > now + AHEAD
        asked = request.model_copy(update={"time": when})
        encoded = scorer.encode(asked)
        told, raw = scorer.runtime.explain(encoded.inputs), scorer.raw(encoded)
        unadapted = scorer.corrected(raw)
        scenario_logit = told["scenario_logit"].astype(np.float64) + (unadapted - raw)[:, None]
        shares = np.exp(told["log_assignment"].astype(np.float64))  # (1 or N, K)
        log_assignment = believed(shares.mean(0, keepdims=True))
        state = self._up_to(microseconds(now if lies_ahead else when))  # answers to come are not there yet
        found = self._adaptation(state).predict(log_assignment, scenario_logit, unadapted, np.array([len(unadapted)]))
        told = {**told, "log_assignment": np.log(found.assignment)}
        answer = scorer.answer(asked, encoded, found.logit, told)
        if not asked.shown or state.frozen or lies_ahead:
            return answer
        identity = text_of_value(asked.request) or uuid.uuid4().hex
        numbers = _packed(log_assignment, scenario_logit, found, unadapted)
        items = [item or "" for item in scorer.items_of([candidate["item"] for candidate in asked.candidates])]
        self._store.add(self._model, Shown(identity, microseconds(when), items, numbers))
        return answer | {"request": identity}

    def answer(self, taken: Sequence[tuple[str, str]]) -> list[bool]:
        """Note what was taken, as pairs of request and item; whether each request still waited for it."""
        return self._store.answer(taken) if taken else []

    def read(self) -> MixAnswer:
        """The mix by now."""
        text, _ = self._store.read(self._model, 0, 1)
        state = self._state(text)
        found, learned = self._adaptation(state), state.learned
        return MixAnswer(
            following=True,
            frozen=state.frozen,
            model=self._model,
            answered=found.requests,
            log_weight=found.mix[:-2].tolist(),
            temperature=float(found.mix[-2]),
            level=found.level,
            trust=0.5 if learned is None else learned.weight,
            moments=state.moments,
        )

    def freeze(self, frozen: bool) -> MixAnswer:
        """Keep the mix as it is, or follow it again; what waits while it is frozen is not learned from."""
        self._store.change(
            self._model, lambda text, _: self._state(text).model_copy(update={"frozen": frozen}).model_dump_json()
        )
        return self.read()

    def reset(self) -> MixAnswer:
        """Begin again with the mix as trained."""
        self._store.change(self._model, lambda text, _: MixState(frozen=self._state(text).frozen).model_dump_json())
        return self.read()

    def _state(self, text: str | None) -> MixState:
        """What the store's text says; it is the same for all requests between two blocks of answers."""
        last = self._last
        if text != last[0]:
            last = self._last = (text, MixState() if text is None else MixState.model_validate_json(text))
        return last[1]

    def _adaptation(self, state: MixState) -> Adaptation:
        return Adaptation(self._scenarios, self._options, state.learned)

    def _up_to(self, time: int) -> MixState:
        """What is known at a moment: every full block of answers that count before it is learned from first."""
        before, every = time - microseconds(self._options.answers_after), self._options.every
        while True:
            text, is_due = self._store.read(self._model, before, every)
            if not is_due:
                return self._state(text)
            self._store.change(self._model, self._learn, before, every)

    def _learn(self, text: str | None, shown: Sequence[Shown]) -> str:
        state = self._state(text)
        if state.frozen:
            return state.model_dump_json()
        answers, adaptation = _answers(shown, self._scenarios), self._adaptation(state)
        sizes = answers.sizes
        used = adaptation.predict(answers.log_assignment, answers.scenario_logit, answers.unadapted, sizes).assignment
        adaptation.learn_from(answers)
        learned = adaptation.state
        moment = MixMoment(
            time=float(answers.time[-1]),
            trained=np.exp(answers.log_assignment).mean(0).tolist(),
            followed=used.mean(0).tolist(),
            trust=learned.weight,
        )
        return MixState(learned=learned, moments=[*state.moments, moment][-MOMENTS:]).model_dump_json()


def _packed(log_assignment: Any, scenario_logit: Any, found: FollowedPrediction, unadapted: Any) -> bytes:
    """What learning from a request takes: K, then N rows of K + 2, in float64."""
    rows = np.column_stack([scenario_logit, found.adapted, unadapted])
    return np.concatenate([log_assignment[0], rows.ravel()]).tobytes()


def _answers(shown: Sequence[Shown], scenarios: int) -> Answers:
    numbers = [np.frombuffer(one.numbers) for one in shown]
    rows = np.concatenate([one[scenarios:].reshape(-1, scenarios + 2) for one in numbers])
    label = np.array([item in one.taken for one in shown for item in one.items], dtype=np.float64)
    return Answers(
        time=np.array([one.time / MICROSECONDS for one in shown]),
        sizes=np.array([len(one.items) for one in shown]),
        log_assignment=np.stack([one[:scenarios] for one in numbers]),
        scenario_logit=rows[:, :scenarios],
        adapted=rows[:, -2],
        unadapted=rows[:, -1],
        label=label,
        weight=np.ones(len(label)),
    )
