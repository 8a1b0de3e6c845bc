"""Had this before? Repeat indicator, count and recency of a candidate, repeat fraction of a request."""

from pydantic import Field

from musenet.options import Options, Seconds


class RepeatOptions(Options):
    """When a candidate repeats an earlier event: all `key` columns are equal and none is missing."""

    key: list[str] = Field(min_length=1, description="columns whose equality says `had this before`")
    kinds: list[str] | None = Field(None, description="event kinds that count; all, if left out")
    window: Seconds | None = Field(None, description="how far back an event counts; for ever, if left out")
