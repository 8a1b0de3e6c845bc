"""What a user did before a request: the last L events strictly earlier than it."""

from pydantic import Field

from musenet.options import Options, Seconds


class HistoryOptions(Options):
    """Which events a request's history holds and what is known of each."""

    columns: list[str] = Field([], description="columns of the events (or of their items) that describe an event")
    length: int = Field(50, ge=0, le=10_000, description="the last so many events before the request")
    kinds: list[str] | None = Field(None, description="event kinds that count; all, if left out")
    delay: Seconds = Field(0.0, description="events of the last so many seconds are not known yet when scoring")
