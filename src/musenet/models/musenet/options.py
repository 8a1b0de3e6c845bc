"""Options of MUSENET, and what follows from them."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from musenet.errors import ConfigError
from musenet.models.options import ModelOptions, PoolingOptions, Role
from musenet.options import Options

if TYPE_CHECKING:
    from musenet.dataset.batch import Schema

Form = Literal["log", "score", "probability", "plain"]
FORMS: tuple[Form, ...] = ("log", "probability", "score", "plain")
Assignment = Annotated[
    Literal["soft", "hard", "gate", "uniform", "permuted", "predefined", "true"],
    BeforeValidator(lambda value: "true" if value is True else value),  # what YAML makes of a bare `true`
]


class MetricSpaceOptions(Options):
    """f_omega: what it sees and how large it is."""

    inputs: list[Literal["profile", "context", "history"]] = ["profile", "context", "history"]
    hidden: list[int] = [64, 32]
    dimension: int = Field(16, ge=1)


class PruningOptions(Options):
    """`scenarios: auto`: how many there are at first, when they are judged, and what they have to be worth."""

    start: int = Field(8, ge=2, le=256, description="number of scenarios at the start of training")
    begin: float = Field(0.3, ge=0, lt=1, description="share of training after which scenarios may be dropped")
    end: float = Field(0.65, gt=0, lt=1, description="share of training after which no more are dropped")
    least_use: float = Field(
        0.025,
        ge=0,
        description="a scenario is dropped if it saves a smaller share of a request's log-loss than this in the end",
    )

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> "PruningOptions":
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must be before end ({self.end})")
        return self


class MusenetOptions(PoolingOptions):
    """Options of MUSENET, its ablations and its controls."""

    name: Literal["musenet"] = "musenet"
    objective: Literal["robust", "paper"] = Field(
        "robust", description="`robust`: what works here; `paper`: the paper as written"
    )
    assignment: Assignment = Field(
        "soft",
        description="how requests get their scenario; `gate`, `uniform`, `permuted` are controls, `true` is a "
        "diagnostic",
    )
    scenarios: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        4, description="K; `auto` finds it; `predefined` and `true` take it from the log"
    )
    pruning: PruningOptions = PruningOptions()
    form: Form | Literal["auto"] = Field(
        "log",
        description="the reading of Eq 5 and 9; `auto` trains all and keeps the best on validation; `plain` has no "
        "repeat mechanism",
    )
    hidden: list[int] = Field(
        [64, 32], min_length=1, description="sizes of the ReLU layers of every MLP of an intention module"
    )
    intention_hidden: list[int] | None = Field(
        None,
        min_length=1,
        description="sizes of the ReLU layers of the networks of the repeat probability; as `hidden` if unset",
    )
    parameters_of: int | None = Field(
        None,
        ge=1,
        description="widen the modules until they have as many parameters as this many scenarios: the control of "
        "equal size",
    )
    metric_space: MetricSpaceOptions = MetricSpaceOptions()
    metric_learning_rate: float = Field(
        10.0,
        gt=0,
        description="learning rate of metric space and prototypes, as a multiple of `training.learning_rate`",
    )
    shared_score: bool = Field(True, description="add a score that all scenarios share; not for `paper`")
    cross_layers: int = Field(
        0, ge=0, description="cross layers (DCN-V2) over both sides' inputs, below the scores; not for `paper`"
    )
    scale: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        None,
        description="s, the factor of squared distances in Eq 3; unset: 0.5, or 1 for `paper`; `auto`: 2 s λ_max = "
        "1.5 on the first batch",
    )
    spread: float = Field(
        0.3, gt=0, description="standard deviation of the prototypes' initial coordinates; 1 for `paper`"
    )
    likelihood: Literal["request", "mixture", "bound"] = Field(
        "request",
        description="L_T: likelihood of whole requests, of single candidates, or the first term of the paper's bound",
    )
    prototypes: Literal["gradient", "posterior"] = Field(
        "gradient", description="how they are updated: by back-propagation, or by Eq 14 with posterior weights"
    )
    prototype_rate: float = Field(0.2, gt=0, le=1, description="α of Eq 14")
    auxiliary: float = Field(0.5, ge=0, description="β of Eq 13, the weight of L_A")
    balance: float = Field(0.1, ge=0, description="weight of the balance term")
    confidence: float = Field(0.0, ge=0, description="final weight of the entropy penalty; 0 for none")
    confidence_from: float = Field(
        0.6, ge=0, lt=1, description="share of training after which the penalty begins to rise"
    )
    harden_from: float = Field(
        0.5, ge=0, lt=1, description="share of training after which `assignment: hard` samples by Eq 7"
    )
    temperature: float = Field(0.1, gt=0, description="τ of Eq 7")

    @model_validator(mode="after")
    def _fits_objective(self) -> "MusenetOptions":
        if self.objective == "paper" and self.assignment not in ("soft", "hard"):
            raise ValueError(f"objective `paper` knows the assignments soft and hard, not {self.assignment}")
        given = self.objective == "paper" or self.assignment in ("uniform", "predefined", "true")
        if self.scenarios == "auto" and given:
            raise ValueError("scenarios `auto` needs the robust objective and an assignment that is learned")
        return self

    @property
    def role(self) -> Role:
        """Controls have parts of MUSENET; a diagnostic is told the truth."""
        if self.assignment == "true":
            return "diagnostic"
        learns = self.learns_scenarios and self.assignment in ("soft", "hard") and self.objective == "robust"
        return "musenet" if learns else "control"

    @property
    def learns_scenarios(self) -> bool:
        """Unless there is one alone, or the assignment is given."""
        return self.scenarios != 1 and self.assignment not in ("uniform", "predefined", "true")

    @property
    def soft_scenarios(self) -> bool:
        """Whether scenarios are learned and every request has a share in each."""
        return self.learns_scenarios and self.assignment == "soft"

    @property
    def hardens(self) -> bool:
        """Whether every request gets one scenario in the end; the paper's hard version gives it to candidates."""
        return self.learns_scenarios and self.assignment == "hard" and self.objective == "robust"

    @property
    def unservable(self) -> str | None:
        """True scenarios and mixed-up ones exist in a log alone."""
        if self.assignment not in ("true", "permuted"):
            return None
        return f"the assignment '{self.assignment}' is a diagnostic that needs its own log; train one that is learned"

    def left_open(self, has_repeats: bool) -> dict[str, ModelOptions]:
        """`form: auto`: every reading of Eq 5 and 9."""
        if self.form != "auto":
            return {}
        return {form: self.model_copy(update={"form": form}) for form in FORMS if has_repeats or form == "plain"}

    def scenario_count(self, schema: "Schema") -> int:
        """K when training begins; from the log where a column names the scenario."""
        if self.assignment == "predefined":
            if not schema.predefined_scenarios:
                raise ConfigError("model.assignment: predefined needs `predefined_scenario`, the columns that name it")
            return len(schema.predefined_scenarios)
        if self.assignment == "true":
            if not schema.true_scenarios:
                raise ConfigError("model.assignment: true needs `true_scenario`, a generator's column")
            return schema.true_scenarios
        return self.pruning.start if self.scenarios == "auto" else self.scenarios
