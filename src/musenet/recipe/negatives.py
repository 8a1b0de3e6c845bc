"""Negatives for a log of positives alone: how many, and from where."""

from typing import Literal

from pydantic import Field

from musenet.options import Options


class NegativeOptions(Options):
    """A fixed number of sampled items per request, never what the user took in that request.

    Never a number per positive: the length of a request's list would tell how many positives it holds.
    """

    per_request: int = Field(ge=1, le=10_000)
    source: Literal["popular", "catalogue"] = Field(
        "popular",
        alias="from",
        description="sample in proportion to popularity in the training period, or uniformly from all items",
    )

    @property
    def protocol(self) -> str:
        """How negatives came about, to be printed beside every metric."""
        how = "in proportion to popularity in training" if self.source == "popular" else "evenly from the catalogue"
        return f"{self.per_request} negatives per request, sampled {how}"
