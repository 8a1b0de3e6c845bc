"""Everything that decides what a prepared dataset holds, apart from the log itself."""

from typing import Literal

from pydantic import Field, model_validator

from musenet.options import Options
from musenet.recipe.features import Features
from musenet.recipe.history import HistoryOptions
from musenet.recipe.negatives import NegativeOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.recipe.requests import RequestOptions
from musenet.recipe.split import SplitOptions


class Recipe(Options):
    """How tables become a dataset."""

    seed: int = Field(1, ge=0, description="decides what preparation draws")
    features: Features
    history: HistoryOptions = HistoryOptions()
    repeat: RepeatOptions | None = None
    requests: RequestOptions = RequestOptions()
    split: SplitOptions
    negatives: Literal["none"] | NegativeOptions = "none"
    predefined_scenario: list[str] = Field(
        [],
        description="context columns whose combination is a predefined scenario; only PLE, RevMan, STAR, SAR-Net, "
        "TreeMS and `assignment: predefined` see it",
    )
    true_scenario: str | None = Field(None, description="a generator's column; never a feature")
    true_probability: str | None = Field(None, description="a generator's column; never a feature")

    @model_validator(mode="after")
    def _truth_is_no_feature(self) -> "Recipe":
        for feature in self.features.resolved():
            if feature.name in (self.true_scenario, self.true_probability):
                raise ValueError(f"features.{feature.side}: '{feature.name}' is the generator's truth, never a feature")
        return self

    @model_validator(mode="after")
    def _vectors_are_features_alone(self) -> "Recipe":
        vectors = {feature.name for feature in self.features.resolved() if feature.type == "vector"}
        named = {
            "history.columns": self.history.columns,
            "repeat.key": self.repeat.key if self.repeat else [],
            "predefined_scenario": self.predefined_scenario,
        }
        for key, names in named.items():
            for name in names:
                if name in vectors:
                    raise ValueError(
                        f"{key}: '{name}' is a vector, whose values do not recur: name a column of categories, or "
                        "leave it out"
                    )
        return self

    @model_validator(mode="after")
    def _lists_are_as_shown(self) -> "Recipe":
        if self.features.relative and self.negatives != "none":
            raise ValueError(
                "features.relative: with sampled negatives a candidate's place in its list tells its label, as nobody "
                "was shown that list: leave out relative or negatives"
            )
        return self
