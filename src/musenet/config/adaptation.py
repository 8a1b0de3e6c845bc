"""How a trained model follows a period that differs from the one it was trained on."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from musenet.errors import ConfigError
from musenet.models.musenet.adaptation import MixOptions
from musenet.options import Options, Seconds, reason


class FinetuneOptions(Options):
    """Training going on with every block of answered requests, once each."""

    learning_rate: float = Field(
        0.001,
        gt=0,
        description="of networks and embedding table; MUSENET's metric space has its multiple, as in training",
    )
    every: int = Field(500, ge=1, description="answered requests per step")


class AdaptOptions(MixOptions):
    """The mix of scenarios followed (P(c) of Eq 1), or one of its rivals at the same information."""

    answers_after: Seconds = Field(60.0, description="time after a request until its labels are known")
    finetune: FinetuneOptions | None = Field(None, description="fine-tune online instead, any model")
    intercept: bool = Field(False, description="adapt one number that is added to every logit instead, any model")

    @model_validator(mode="after")
    def _is_one_way(self) -> "AdaptOptions":
        if self.finetune is not None and self.intercept:
            raise ValueError("finetune and intercept are two ways to adapt: choose one")
        return self


def _of_yes_or_no(value: Any) -> Any:
    return {True: {}, False: None}.get(value, value) if isinstance(value, bool) else value


class AdaptedRow(Options):
    """A row of a comparison whose runs are another row's, going through the test period in order of time."""

    row: str = Field(description="the label of the row whose runs adapt")
    adapt: Annotated[AdaptOptions, BeforeValidator(_of_yes_or_no, json_schema_input_type=bool | AdaptOptions)] = Field(
        AdaptOptions(), description="`true` for the mix of scenarios, or options"
    )


def adapt_options(value: Any) -> AdaptOptions | None:
    """The options that a value of `adapt` stands for; raises `ConfigError` if it stands for none."""
    try:
        return TypeAdapter(Adapt).validate_python(value)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"] if part != "function-before[_of_yes_or_no()]")
        raise ConfigError(f"adapt{where and '.'}{where}: {reason(error)}") from error


Adapt = Annotated[
    AdaptOptions | None, BeforeValidator(_of_yes_or_no, json_schema_input_type=bool | AdaptOptions | None)
]
"""`true` stands for the options as they are, `false` for none."""
