"""What the service does, apart from HTTP: answers from the newest export, keeps events, changes exports in between."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from musenet.config.adaptation import AdaptOptions
from musenet.dataset.texts import LONGEST_ID
from musenet.errors import ExportError, RequestError
from musenet.serving.manifest import MANIFEST
from musenet.serving.scorer.messages import NewEvent, NewItem, ScoreRequest
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.service.mix import AHEAD, FollowedMix, MixAnswer
from musenet.serving.service.scenario_description import ScenariosAnswer, read_scenarios
from musenet.serving.store.history import UserEvent, WritableStore
from musenet.serving.store.opening import open_store
from musenet.serving.values import text_of_value
from musenet.storage.copies import fetched

FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""Seconds until an export that could not be taken is tried again."""

_Identity = tuple[int, int, int]


@dataclass(frozen=True)
class _Refused:
    """An export that could not be taken, and when to try again."""

    export: _Identity | None = None
    wait: float = FIRST_WAIT
    until: float = 0.0

    def rests(self, export: _Identity) -> bool:
        """Whether it is too early to try this export again."""
        return export == self.export and time.monotonic() < self.until

    def again(self, export: _Identity) -> "_Refused":
        """After another failure."""
        wait = min(2 * self.wait, LONGEST_WAIT) if export == self.export else FIRST_WAIT
        return _Refused(export, wait, time.monotonic() + wait)


@dataclass(frozen=True)
class EventsAdded:
    """What became of events."""

    new: list[bool]
    """Of each that is kept, whether it was new."""
    answers: list[bool]
    """Of each that names a request, whether that waited for it."""


class Service:
    """A scorer with its history store; threads may share it.

    Args:
        folder: the export; when another is put in its place, `reload` takes it.
        store: a path or URL for `open_store`; keeps the items added since the export, too.
        retention: seconds after which a repeat key that was not met again is forgotten; None for never.
        adapt: how the mix of scenarios is followed; None to answer by the model as trained.

    Raises:
        ExportError: if the folder holds no whole export, or one without scenarios to follow.
        StoreError: if the store cannot be opened, or was made for other options of history or repeat.
    """

    def __init__(
        self, folder: Path, store: str, retention: float | None = None, adapt: AdaptOptions | None = None
    ) -> None:
        self._folder, self._adapt = folder, adapt
        self._exported = _identity(folder)
        self._refused = _Refused()
        self.scorer = Scorer(folder)
        """Of the newest export; whoever answers a request keeps to the one that it began with."""
        self.store: WritableStore = open_store(store, self.scorer.rules, retention)
        self.scorer.use(self.store)
        self.mix = self._followed(self.scorer)
        """The mix of scenarios, where it is followed."""
        self.scenarios: ScenariosAnswer = read_scenarios(self.scorer)

    def score(self, request: ScoreRequest) -> dict[str, Any]:
        """As `Scorer.score`, by the mix of scenarios that is followed, if any is."""
        mix = self.mix
        return self.scorer.score(request) if mix is None else mix.score(request)

    def add_events(self, events: Sequence[NewEvent]) -> EventsAdded:
        """Keep events, but for those of kinds that count nowhere, and take them as answers to what they name.

        Raises:
            RequestError: naming the field that cannot be used; then none of the events is kept.
            StoreError: if the store does not answer; then send all again.
        """
        now, scorer, mix = time.time(), self.scorer, self.mix
        scorer.learn_items()
        kept, taken = [], []
        for place, sent in enumerate(events):
            happened = now if sent.time is None else sent.time
            if happened > now + AHEAD:
                raise RequestError(f"events.{place}.time", f"is more than {AHEAD / 60:.0f} minutes in the future")
            event = scorer.past_event(sent, f"events.{place}")
            if sent.request is not None and event.item is not None:
                taken.append((text_of_value(sent.request) or "", event.item))
            if scorer.rules.in_history(event.kind) or scorer.rules.in_repeats(event.kind):
                user, event = scorer.user_of(sent.user), replace(event, time=happened)
                kept.append(UserEvent(user, event, text_of_value(sent.id)))
        new = self.store.append(kept)
        return EventsAdded(new, [] if mix is None else mix.answer(taken))

    def read_mix(self) -> MixAnswer:
        """The mix of scenarios that is followed, if any is."""
        return MixAnswer(following=False, model=self.scorer.version) if self.mix is None else self.mix.read()

    @property
    def followed(self) -> FollowedMix:
        """The mix of scenarios that is followed; raises `RequestError` if none is."""
        if self.mix is None:
            raise RequestError("mix", "is not followed: start the service with --adapt")
        return self.mix

    def add_items(self, items: Sequence[NewItem]) -> int:
        """As `Scorer.add_items`."""
        return self.scorer.add_items(items)

    def history(self, user: str | int) -> list[dict[str, Any]]:
        """What the store knows of a user now: events as `/score` takes them, oldest first."""
        id_column = self.scorer.manifest.item_column
        return [
            {"item": event.item, "kind": event.kind, "time": event.time}
            | {name: value for name, value in event.attributes.items() if name != id_column and value is not None}
            for event in self.store.read(self.scorer.user_of(user), None).events
        ]

    def forget(self, user: str) -> bool:
        """Remove all that the store knows of a user; whether there was anything.

        Raises:
            RequestError: if this is no id.
        """
        if not 0 < len(user) <= LONGEST_ID:
            raise RequestError("user", f"takes an id: text of 1 to {LONGEST_ID} characters")
        return self.store.forget(self.scorer.user_of(user))

    def check(self) -> None:
        """Raise `StoreError` unless requests can be answered."""
        self.store.check()

    def reload(self) -> bool:
        """Take the folder's export, of one in a bucket what is there now, if it is another than the one in use; whether
        it was.

        Requests that are being answered end with the old one.

        Raises:
            ExportError: if the new one is not whole, or needs another history store. After any error the old one stays
                in use, and the new one is tried again, ever more rarely: it may be half copied, a disk may come back.
        """
        found = _identity(fetched(self._folder))
        if found is None or found == self._exported or self._refused.rests(found):
            return False
        try:
            scorer = Scorer(self._folder, store=self.store)
            if scorer.rules != self.scorer.rules:
                raise ExportError(
                    f"{self._folder} has other options of history or repeat than the model in use: "
                    "start with a new store"
                )
            scenarios, mix = read_scenarios(scorer), self._followed(scorer)
        except BaseException:
            self._refused = self._refused.again(found)
            raise
        self._exported, self.scorer, self.scenarios, self.mix = found, scorer, scenarios, mix
        return True

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def _followed(self, scorer: Scorer) -> FollowedMix | None:
        return None if self._adapt is None else FollowedMix(scorer, self.store.mix, self._adapt)


def _identity(folder: Path) -> _Identity | None:
    """Of the export in a folder; None while there is none, as for a moment when one is replaced."""
    try:
        found = os.stat(folder / MANIFEST)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
