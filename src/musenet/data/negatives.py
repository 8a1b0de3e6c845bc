"""Negatives for a log of positives alone."""

from typing import Literal

from pydantic import Field

from musenet.options import Options


class NegativeOptions(Options):
    """A fixed number of sampled items per request, never what the user took in that request.

    Never a number per positive: the length of a request's list would tell how many positives it holds.
    """

    per_request: int = Field(ge=1, le=10_000)
    source: Literal["popular", "catalogue"] = Field(
        "popular", alias="from", description="in proportion to training popularity, or evenly from all items"
    )
