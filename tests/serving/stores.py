"""Rules and events for tests of stores."""

from typing import Any

from musenet.recipe.history import HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.store.history import PastEvent, UserEvent
from musenet.serving.store.rules import HistoryRules

START = 1_704_067_200.0
MINUTE = 60.0


def simple_rules(length: int = 5, **repeat: Any) -> HistoryRules:
    """Histories of a few events of any kind, repeats by item."""
    options = RepeatOptions.model_validate({"key": ["item_id"], **repeat})
    return HistoryRules(HistoryOptions(length=length, columns=["item_id", "page"]), options)


def click(user: str, second: float, item: str = "1", identity: str | None = None) -> UserEvent:
    """A click at so many seconds after the start."""
    event = PastEvent(item, "click", START + second, {"item_id": item, "page": "home"})
    return UserEvent(user, event, identity)
