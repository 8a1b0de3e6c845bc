"""What `compare`, `sweep` and tuning may be told."""

from typing import Literal

from pydantic import Field, model_validator

from musenet.config.adaptation import AdaptedRow
from musenet.config.search_space import Choices, TuningOptions
from musenet.models.registry import AnyModelOptions
from musenet.options import Options


class TopOptions(Options):
    """More seeds for the best rows by validation AUC, the diagnostics `true` and `permuted` left out."""

    count: int = Field(3, ge=1, description="number of rows with more seeds")
    seeds: int = Field(5, ge=1, description="seeds of each of them in total")


class CompareOptions(Options):
    """What `compare` puts side by side."""

    models: dict[str, AnyModelOptions] = Field({}, description="the rows of the table: a label and a model each")
    reference: str | None = Field(None, description="the row that all others are compared with; the first if unset")
    base: str | None = Field(None, description="the base row of RelaImpr; the first if unset")
    seeds: int = Field(3, ge=1)
    top: TopOptions | None = Field(None, description="more seeds for the best rows; off if unset")
    tuning: TuningOptions | None = Field(None, description="tuning with an equal budget; off if unset")
    adapted: dict[str, AdaptedRow] = Field(
        {}, description="rows of runs that adapt in the test period: a label and the row of the runs each"
    )

    @model_validator(mode="after")
    def _rows_exist(self) -> "CompareOptions":
        tuning = self.tuning or TuningOptions()
        named: dict[str, list[str | None]] = {
            "reference": [None if self.reference in self.adapted else self.reference],
            "base": [self.base],
            "adapted": [adapted.row for adapted in self.adapted.values()],
            "tuning.own": [*tuning.own],
            "tuning.like": [*tuning.like, *tuning.like.values()],
        }
        for key, labels in named.items():
            for row in labels:
                if row is not None and row not in self.models:
                    raise ValueError(f"{key}: '{row}' is none of the models: {', '.join(self.models)}")
        for label, adapted in self.adapted.items():
            if label in self.models:
                raise ValueError(f"adapted: '{label}' is already one of the models: rename it")
            if adapted.adapt.finetune is not None and not self.models[adapted.row].by_gradient:
                raise ValueError(
                    f"adapted: '{adapted.row}' is not trained by gradient descent: adapt it by `intercept`"
                )
        for row, other in tuning.like.items():
            if other in tuning.like or row in tuning.own:
                raise ValueError(f"tuning.like: '{row}' must be like a row that is tuned, and have no space of its own")
        return self


class SweepOptions(Options):
    """What `sweep` varies: one key at a time around the configured values."""

    parameters: dict[str, Choices] = Field(
        {"model.scenarios": [1, 2, 4, 8], "model.auxiliary": [0, 0.02, 0.1, 0.5, 1]},
        description="keys of `model` or `training`, and the values to try (the paper's Fig 4 if unset)",
    )
    models: list[str] | None = Field(
        None, description="labels of `compare.models`; if unset, the experiment's musenet, soft and hard"
    )
    split: Literal["valid", "test"] = Field(
        "valid", description="which period to evaluate on; use validation to choose"
    )
