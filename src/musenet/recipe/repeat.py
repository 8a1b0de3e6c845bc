"""When a candidate repeats an earlier event."""

from pydantic import Field, model_validator

from musenet.options import Options, Seconds
from musenet.recipe.history import Kind


class RepeatOptions(Options):
    """When a candidate repeats an earlier event: all `key` columns are equal, and none is missing unless it may be."""

    key: list[str] = Field(
        min_length=1, description='columns that define "had this before": `[hotel_id]`, or `[category, brand]`'
    )
    # Not written where unset: datasets prepared before there was this key remain the same ones.
    optional: list[str] = Field(
        [],
        description="columns of `key` that may be missing for a candidate: the others then decide about repeats",
        exclude_if=lambda columns: not columns,
    )
    kinds: list[Kind] | None = Field(None, description="event kinds to use; all if unset")
    window: Seconds | None = Field(
        None, description="how far back events count; without limit if unset; must be longer than `history.delay`"
    )
    recency: bool = Field(
        True, description="use how long ago the last one was; `false` if only the order of events is known"
    )

    @model_validator(mode="after")
    def _leaves_a_key(self) -> "RepeatOptions":
        for name in self.optional:
            if name not in self.key:
                raise ValueError(f"optional: '{name}' is no column of the key ({', '.join(self.key)})")
        if not set(self.key) - set(self.optional):
            raise ValueError("optional: at least one column of the key must be there")
        return self
