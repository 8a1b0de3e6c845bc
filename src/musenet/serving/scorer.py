"""Scores a user's candidates from an export folder: the Python API, and the service's heart."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from musenet.serving.history import HistoryStore, Past, PastEvent
from musenet.serving.messages import Event, NewItem, ScoreRequest


class Scorer:
    """An opened export.

    Args:
        folder: what `musenet export` wrote.
        store: keeps users' histories; without one, requests bring their own.
        state: a folder in which added items are kept across restarts; in memory alone, if None.

    Raises:
        ExportError: if the folder is missing, damaged, incomplete, or of a newer format.
    """

    def __init__(
        self, folder: Path | str, *, store: HistoryStore | None = None, state: Path | str | None = None
    ) -> None:
        self.folder = Path(folder)
        self.store = store
        self.past: Past
        """Which events count, for history stores."""
        raise NotImplementedError

    @property
    def version(self) -> str:
        """Which model answers: the experiment's name and the first digits of the weights' checksum."""
        raise NotImplementedError

    def score(self, request: Mapping[str, Any] | ScoreRequest) -> dict[str, Any]:
        """Scores in the order asked, in the shape of `ScoreResponse`; what does not apply is left out.

        Raises:
            RequestError: naming the field that cannot be used.
        """
        raise NotImplementedError

    def add_items(self, items: Iterable[Mapping[str, Any] | NewItem]) -> int:
        """Learn attributes of new or changed items, all or none; how many. Raises `RequestError` naming the field."""
        raise NotImplementedError

    def past_event(self, event: Event, where: str = "history") -> PastEvent:
        """An event as a history store keeps it: with the attributes that are looked up from its item.

        Raises:
            RequestError: for a column that events do not have; `where` begins the field's name.
        """
        raise NotImplementedError
