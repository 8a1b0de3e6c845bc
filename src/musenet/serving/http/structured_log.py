"""Log lines as JSON that hold nothing of what users sent: no ids, no bodies, no queries, no error's own words."""

import json
import logging
import re
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

LOGGER = logging.getLogger("musenet.serving")
FIELDS = "musenet_fields"
OURS = ("musenet", "uvicorn")


class JsonLines(logging.Formatter):
    """One JSON object a line; of an error, its kind and where it was raised."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _event_of(record),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            entry["where"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        return json.dumps(entry, ensure_ascii=False)


def _event_of(record: logging.LogRecord) -> str:
    """What happened; of other libraries' lines the first, without what stands in parentheses and may be a user's."""
    said = record.getMessage()
    return said if record.name.startswith(OURS) else re.sub(r"\(.+\)", "(…)", said.partition("\n")[0])


def say(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event with its fields."""
    LOGGER.log(level, event, extra={FIELDS: fields})


def start_logging() -> None:
    """Send every line to standard error as JSON: ours, the server's, and other libraries' warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.INFO)
    sys.excepthook = _say_raised
    threading.excepthook = lambda raised: _say_raised(raised.exc_type, raised.exc_value, raised.exc_traceback)


def _say_raised(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    LOGGER.error("unexpected error", exc_info=(kind, error or kind(), trace))
