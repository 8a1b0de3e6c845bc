"""The experiment: one YAML, validated whole before anything runs.

Each part's options stand beside what they configure; this file only composes them.
"""

from copy import deepcopy

from pydantic import Field, PrivateAttr, model_validator

from musenet.calibration import CalibrationKind
from musenet.config.backtest import BacktestOptions
from musenet.config.drift import DriftOptions
from musenet.config.search_space import check_space
from musenet.config.studies import CompareOptions, SweepOptions
from musenet.config.tracking import TrackingOptions
from musenet.config.training import TrainingOptions
from musenet.config.written import Content, written
from musenet.frames import Kind
from musenet.models.musenet.options import MusenetOptions
from musenet.models.registry import AnyModelOptions
from musenet.recipe.recipe import Recipe
from musenet.sources.registry import AnySourceOptions


class Experiment(Recipe):
    """A log, how it is prepared, a model and how it is trained."""

    name: str = Field(
        pattern=r"^[\w-][\w.-]*$",
        max_length=100,
        description="names the folders `datasets/<name>` and `runs/<name>`: letters, digits, `_`, `.`, `-`",
    )
    seed: int = Field(
        1, ge=0, description="random seed of initial weights and batch order; preparation uses `data.seed`"
    )
    data: AnySourceOptions
    model: AnyModelOptions = MusenetOptions()
    training: TrainingOptions = TrainingOptions()
    calibration: CalibrationKind = Field(
        "none", description="recalibration of the logits after training, fitted on validation: see below"
    )
    compare: CompareOptions = CompareOptions()
    sweep: SweepOptions = SweepOptions()
    backtest: BacktestOptions = Field(BacktestOptions(), description="options of `musenet backtest`")
    drift: DriftOptions = Field(DriftOptions(), description="thresholds of `musenet drift`")
    tracking: TrackingOptions = Field(TrackingOptions(), description="experiment trackers that record trainings")
    _written: tuple[str, Content] | None = PrivateAttr(None)
    """The YAML that it was read from, comments included, and what that holds."""
    _frames: Kind | None = PrivateAttr(None)
    """Whose the frames of its log were, if it had some; what is made of the log comes out as such."""

    @classmethod
    def read(cls, content: Content, text: str = "") -> "Experiment":
        """The experiment that keys and values describe, written so in `text`; raises pydantic's `ValidationError`."""
        found = cls.model_validate(content)
        found._written = text, deepcopy(content)
        return found

    @property
    def content(self) -> Content:
        """All keys and values, defaults included."""
        return self.model_dump(mode="json", by_alias=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and self.content == other.content

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        """The YAML that it was read from, with what was set since."""
        text, raw = self._written or ("", self.model_dump(mode="json", by_alias=True, exclude_unset=True))
        return written(text, raw, Experiment.model_validate(raw).content, self.content)

    __repr__ = __str__

    @model_validator(mode="after")
    def _tuning_fits(self) -> "Experiment":
        models, tuning = self.compare.models, self.compare.tuning
        if tuning is not None and models:
            check_space(tuning.shared, list(models.values()), self.training, "compare.tuning.shared")
            for label, space in tuning.own.items():
                check_space(space, [models[label]], self.training, f"compare.tuning.own.{label}")
        return self

    @model_validator(mode="after")
    def _backtest_has_rows(self) -> "Experiment":
        for label in self.backtest.models or ():
            if label not in self.compare.models:
                known = ", ".join(self.compare.models) or "none"
                raise ValueError(f"backtest.models: '{label}' is none of compare.models: {known}")
        return self

    @property
    def recipe(self) -> Recipe:
        """The part that decides the dataset; its seed is that of the data."""
        parts = {name: getattr(self, name) for name in Recipe.model_fields}
        return Recipe.model_validate(parts | {"seed": self.data.seed})
