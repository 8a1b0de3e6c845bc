"""Scores a user's candidates from an export folder: the Python API, and the service's heart."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from musenet.errors import RequestError
from musenet.serving.manifest import read_export
from musenet.serving.scorer.encoded import EncodedRequest, rows_in_use
from musenet.serving.scorer.encoder import Attributes, Encoder, Tally
from musenet.serving.scorer.entities import Entities, Items
from musenet.serving.scorer.explanation import explained
from musenet.serving.scorer.history_codes import encode_events
from musenet.serving.scorer.local_clock import CLOCK, told_by_clock
from musenet.serving.scorer.messages import ITEM, Event, NewItem, ScoreRequest, request_error
from musenet.serving.scorer.numbers import Numbers
from musenet.serving.scorer.repeats import Places, count_repeats
from musenet.serving.scorer.runtime import Arrays, Runtime
from musenet.serving.store.history import NOTHING, HistoryStore, ItemStore, PastEvent, RepeatKey, UserHistory
from musenet.serving.store.rules import HistoryRules
from musenet.serving.text_index import map_column


class Scorer:
    """An opened export.

    Args:
        folder: what `musenet export` wrote.
        store: keeps users' histories, and the items that are added if it is one of `open_store`; without one, requests
            bring their own, and items are kept in memory.
        threads: that a request is computed with.

    Raises:
        ExportError: if the folder is missing, damaged, incomplete, or of another format.
        UserError: if the extra `serve` is not installed.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        store: HistoryStore | None = None,
        threads: int = 1,
    ) -> None:
        self.folder = Path(folder)
        self.manifest = read_export(self.folder)
        """What the export says of itself."""
        self.rules = HistoryRules(self.manifest.history, self.manifest.repeat)
        """Which events count, for history stores."""
        self.runtime = Runtime(self.folder, threads)
        """Computes the graphs."""
        self.encoder = Encoder(self.manifest, self.folder)
        self.forms = self.manifest.forms
        """What the values of requests are."""
        self.users = Entities(self.folder / "users")
        """Those of the export."""
        self.items = Items(self.manifest, self.folder, self.encoder)
        """Those of the export, and those added since."""
        self.use(store)
        self.numbers = Numbers(self.manifest)
        self.relative = self.numbers.relative
        self.embeddings = map_column(self.folder, "embeddings")
        self.correction = math.log(self.manifest.negative_sampling_rate)
        of_key = {name for name, origin in self.manifest.key_columns.items() if origin == "request"}
        of_key -= {self.manifest.item_column}
        self.context_columns = {*self.encoder.columns("context"), *self.manifest.predefined_columns, *of_key}
        """Columns that a request's context may have."""
        self.candidate_columns = {*self.encoder.columns("candidate"), *of_key}
        """Columns that a candidate may have."""
        of_clock = [name for name in self.required_columns if name in CLOCK]
        self.clock_columns = [name for name in of_clock if self.manifest.value_types.get(name) == "whole"]
        """Columns that the time tells where they are left out, as preparation computed them from it."""
        self._event_columns = set(self.manifest.event_columns) - {self.manifest.item_column}

    def use(self, store: HistoryStore | None) -> None:
        """From now on, ask this store."""
        self.store = store
        self.items.store = store if isinstance(store, ItemStore) else None
        self.learn_items()

    def learn_items(self) -> None:
        """Know what whichever server added, as every request does; raises `StoreError` if the store does not answer."""
        self.items.refresh()

    @property
    def required_columns(self) -> list[str]:
        """Of context and candidates, those that a complete request has; none of positions, which scoring fixes."""
        fields = [f for f in self.manifest.fields_of("context", "candidate") if not f.is_position]
        named = [f.column or f.name for f in fields]
        keys = [name for name, origin in self.manifest.key_columns.items() if origin == "request"]
        predefined = self.manifest.predefined_columns if self.runtime.reads("predefined_scenario") else []
        return [name for name in dict.fromkeys([*named, *keys, *predefined]) if name != self.manifest.item_column]

    @property
    def numeric_columns(self) -> list[str]:
        """Of context and candidates, those that take numbers."""
        fields = self.manifest.fields_of("context", "candidate")
        numbers = [f.column or f.name for f in fields if f.kind == "dense" or f.is_bucketed]
        return [name for name in dict.fromkeys(numbers) if name not in self.vector_columns]

    @property
    def vector_columns(self) -> set[str]:
        """Of context and candidates, those that take vectors."""
        fields = self.manifest.fields_of("context", "candidate")
        return {field.column or field.name for field in fields if field.kind == "vector"}

    @property
    def sees_histories(self) -> bool:
        """Whether what users did before makes a difference."""
        compared = self.relative is not None and self.manifest.repeat is not None
        return compared or any(self.runtime.reads(name) for name in ("history_codes", "repeat_features"))

    @property
    def version(self) -> str:
        """Which model answers: the experiment's name and the first digits of the weights' checksum."""
        return self.manifest.model_version

    def score(self, request: Mapping[str, Any] | ScoreRequest) -> dict[str, Any]:
        """Scores in the order asked, in the shape of `ScoreResponse`; what does not apply is left out.

        Raises:
            RequestError: naming the field that cannot be used.
        """
        message = _validated(request)
        encoded = self.encode(message)
        return self.answer(message, encoded, self.logit(encoded))

    def answer(
        self,
        request: ScoreRequest,
        encoded: EncodedRequest,
        logit: NDArray[np.float64],
        told: Arrays | None = None,
    ) -> dict[str, Any]:
        """What is answered by these logits (N,), in the shape of `ScoreResponse`.

        Args:
            request: what was asked.
            encoded: the same for the graphs.
            logit: (N,) of the scores.
            told: `Runtime.explain` where it was asked already, `log_assignment` as it counts in the answer.
        """
        answer: dict[str, Any] = {"scores": (1 / (1 + np.exp(-logit))).tolist()}
        if request.explain:
            why = self.runtime.explain(encoded.inputs) if told is None else told
            answer |= explained(why, encoded.repeats, logit)
            if "scenarios" in answer and self.manifest.scenario_names:
                answer["scenario_names"] = self.manifest.scenario_names
        return answer | {"model": self.version, "unknown": encoded.unknown}

    def user_of(self, user: str | int) -> str:
        """A user's id in the one form in which exports and stores know it."""
        return self.forms.text(self.manifest.user_column, user) or ""

    def items_of(self, items: Sequence[Any]) -> list[str | None]:
        """Ids of items in the one form in which exports know them."""
        return self.forms.texts(self.manifest.item_column, items)

    def logit(self, encoded: EncodedRequest) -> NDArray[np.float64]:
        """(N,) of a click, recalibrated and corrected.

        Raises:
            RequestError: if the numbers are too large for the model to compute with.
        """
        return self.corrected(self.raw(encoded))

    def corrected(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """A model's own logits (N,), finite, recalibrated as on validation, then corrected for the negatives that the
        log left out (validation left out as many)."""
        calibration = self.manifest.calibration
        return (raw if calibration is None else calibration(raw)) + self.correction

    def raw(self, encoded: EncodedRequest) -> NDArray[np.float64]:
        """(N,) the model's own logits; raises `RequestError` if numbers are too large for it to compute with."""
        logit = self.runtime.logit(encoded.inputs).astype(np.float64)
        if not np.isfinite(logit).all():
            place = int(np.argmin(np.isfinite(logit)))
            raise RequestError(f"candidates.{place}", "has no score: a number of it or of the context is too large")
        return logit

    def encode(self, request: Mapping[str, Any] | ScoreRequest) -> EncodedRequest:
        """A request as the graphs take it.

        Raises:
            RequestError: naming the field that cannot be used.
        """
        message, tally = _validated(request), Tally()
        self._check_columns(message)
        self.learn_items()
        when = time.time() if message.time is None else message.time
        if any(name not in message.context for name in self.clock_columns):
            told = told_by_clock(self.clock_columns, when, self.manifest.timezone)
            message = message.model_copy(update={"context": {**told, **message.context}})
        user_row = self.users.find([self.user_of(message.user)])
        candidates = cast("list[Attributes]", message.candidates)
        item_rows = self.items.find(self.items_of([candidate["item"] for candidate in message.candidates]))
        context = self.encoder.encode("context", [message.context], lambda _, name: f"context.{name}", tally)
        candidate = self.encoder.encode("candidate", candidates, lambda i, name: f"candidates.{i}.{name}", tally)
        history = self._history(message, when)
        places = self._may_repeat(item_rows, history)
        repeats = count_repeats(
            self.rules, len(item_rows), lambda: self._keys(message, item_rows, places), history, when, places
        )
        blocks = [
            np.concatenate([self.users.codes(user_row), context.codes], axis=1),
            np.concatenate([self.items.codes(item_rows), candidate.codes], axis=1),
            encode_events(self.encoder, history.events, self.rules.history.length),
        ]
        rows, codes = rows_in_use(blocks)
        of_request = np.concatenate([self.users.dense(user_row), context.dense], axis=1)
        of_candidates = np.concatenate([self.items.dense(item_rows), candidate.dense], axis=1)
        offset = np.array([0, len(item_rows)])
        inputs = {
            "values": self.embeddings.take(rows, axis=0, mode="clip"),  # which reads ahead, as indexing does not
            "request_codes": codes[0],
            "candidate_codes": codes[1],
            "history_codes": codes[2],
            "request_dense": self.numbers.of_requests(of_request),
            "candidate_dense": self.numbers.of_candidates(of_candidates, repeats.features, offset),
            "repeat_features": repeats.features,
            "predefined_scenario": self._predefined(message),
        }
        unknown = {
            "user": int(user_row[0] == 0),
            "items": int((item_rows == 0).sum()),
            "values": dict(tally.unseen),
            "missing": dict(tally.missing),
        }
        return EncodedRequest(inputs, rows, repeats, unknown)

    def add_items(self, items: Iterable[Mapping[str, Any] | NewItem]) -> int:
        """Learn attributes of new or changed items, all or none; how many. Raises `RequestError` naming the field."""
        known: dict[str, Attributes] = {}
        for place, item in enumerate(items):
            try:
                message = item if isinstance(item, NewItem) else NewItem.model_validate(item)
            except ValidationError as error:
                wrong = request_error(error)
                raise RequestError(f"items.{place}.{wrong.field}", wrong.reason) from error
            refuse_unknown(message.columns, self.items.columns, f"items.{place}", "items")
            known[self.items_of([message.item])[0] or ""] = message.columns
        self.items.add(known)
        return len(known)

    def past_event(self, event: Event, where: str = "history") -> PastEvent:
        """An event as a history store keeps it: with the attributes that are looked up from its item.

        Raises:
            RequestError: for a column that events do not have; `where` begins the field's name.
        """
        refuse_unknown(event.columns, self._event_columns, where, "events")
        return self._past_events([event])[0]

    def _history(self, message: ScoreRequest, when: float) -> UserHistory:
        if message.history is not None:
            return self.rules.summarise(self._past_events(message.history), when)
        return NOTHING if self.store is None else self.store.read(self.user_of(message.user), when)

    def _past_events(self, events: Sequence[Event]) -> list[PastEvent]:
        """What is known of each event; what it lacks is taken from its item, if that is where it comes from."""
        items = self.items_of([event.item for event in events])
        rows = self.items.find([item or "" for item in items])
        columns: dict[str, Sequence[Any]] = {}
        for name, origin in self.manifest.event_columns.items():
            if name == self.manifest.item_column:
                columns[name] = items
            elif origin == "items":
                found = self.items.attribute(name, rows)
                columns[name] = [e.columns.get(name, value) for e, value in zip(events, found, strict=True)]
            else:
                columns[name] = [event.columns.get(name) for event in events]
            columns[name] = self.forms.values(name, columns[name])
        return [
            PastEvent(item, event.kind, event.time, {name: values[place] for name, values in columns.items()})
            for place, (item, event) in enumerate(zip(items, events, strict=True))
        ]

    def _may_repeat(self, rows: Places, history: UserHistory) -> Places:
        """Places of the candidates that may repeat something, as far as a glance at their items tells."""
        places = np.arange(len(rows))
        if not history.repeats:
            return places[:0]
        if len(history.repeats) > len(rows):  # the glance would take longer
            return places
        key, looked_up = list(self.manifest.key_columns), self.items.key_columns
        if not looked_up:
            return places
        known: Iterable[RepeatKey] = history.repeats
        if looked_up != key:
            chosen = [key.index(name) for name in looked_up]
            known = [tuple(found[place] for place in chosen) for found in known]
        return places[self.items.may_have(rows, known)]

    def _keys(self, message: ScoreRequest, rows: Places, places: Places) -> list[Sequence[str | None]]:
        """The repeat keys of the candidates at these places, column by column."""
        candidates = cast("list[Attributes]", message.candidates)
        asked = [candidates[place] for place in places.tolist()]
        keys: list[Sequence[str | None]] = []
        for name, origin in self.manifest.key_columns.items():
            if name == self.manifest.item_column:
                keys.append(self.items_of([one[ITEM] for one in asked]))
            elif origin == "items":
                keys.append(self.items.key(name, rows[places]))
            else:
                shared = message.context.get(name)
                keys.append(self.forms.texts(name, [one.get(name, shared) for one in asked]))
        return keys

    def _predefined(self, message: ScoreRequest) -> NDArray[np.int64]:
        """(1,) code of the scenario that the context's columns name; -1 for one that the log does not know."""
        names, known = self.manifest.predefined_columns, self.manifest.predefined_scenarios or []
        texts = ((name, self.forms.text(name, message.context.get(name))) for name in names)
        label = ", ".join(f"{name}={'missing' if text is None else text}" for name, text in texts)
        return np.array([known.index(label) if label in known else -1], dtype=np.int64)

    def _check_columns(self, message: ScoreRequest) -> None:
        refuse_unknown(message.context, self.context_columns, "context", "the context")
        if max(map(len, message.candidates)) > 1:
            for place, candidate in enumerate(message.candidates):
                columns = candidate.keys() - {ITEM}
                if not columns <= self.candidate_columns:
                    refuse_unknown(columns, self.candidate_columns, f"candidates.{place}", "candidates")
        for place, event in enumerate(message.history or ()):
            if not event.columns.keys() <= self._event_columns:
                refuse_unknown(event.columns, self._event_columns, f"history.{place}", "events")


def _validated(request: Mapping[str, Any] | ScoreRequest) -> ScoreRequest:
    if isinstance(request, ScoreRequest):
        return request
    try:
        return ScoreRequest.model_validate(request)
    except ValidationError as error:
        raise request_error(error) from error


def refuse_unknown(columns: Iterable[str], known: set[str], where: str, what: str) -> None:
    """Raise `RequestError` for a column that nothing reads: a misspelt one would be served as missing."""
    for name in columns:
        if name not in known:
            there = f"there are {', '.join(sorted(known)[:20])}" if known else "there are none"
            raise RequestError(f"{where}.{name}", f"is no column of {what}; {there}")
