"""When a candidate repeats an earlier event."""

from pydantic import Field, model_validator

from musenet.options import Options, Seconds
from musenet.recipe.history import Kind


class RepeatOptions(Options):
    """When a candidate repeats an earlier event: all `key` columns are equal, and none is missing unless it may be."""

    key: list[str] = Field(min_length=1, description="columns whose equality says `had this before`")
    # Not written where unset: datasets prepared before there was this key remain the same ones.
    optional: list[str] = Field(
        [],
        description="columns of `key` that a candidate may lack: it then repeats by the others alone",
        exclude_if=lambda columns: not columns,
    )
    kinds: list[Kind] | None = Field(None, description="event kinds that count; all, if left out")
    window: Seconds | None = Field(None, description="how far back an event counts; for ever, if left out")
    recency: bool = Field(True, description="tell how long ago; false where only the order of events is known")

    @model_validator(mode="after")
    def _leaves_a_key(self) -> "RepeatOptions":
        for name in self.optional:
            if name not in self.key:
                raise ValueError(f"optional: '{name}' is no column of the key ({', '.join(self.key)})")
        if not set(self.key) - set(self.optional):
            raise ValueError("optional: at least one column of the key must be there")
        return self
