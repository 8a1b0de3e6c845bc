"""How `musenet backtest` walks forward."""

from typing import Annotated, Literal

from pydantic import Field

from musenet.config.adaptation import AdaptOptions, FinetuneOptions
from musenet.options import Options, Seconds

Policy = Literal["left alone", "mix followed", "fine-tuned online", "warm-started", "retrained"]
"""What is done as time passes: nothing; P(c) follows the answers, or all weights do; at the end of each period training
goes on from the weights, or begins anew."""
POLICIES: tuple[Policy, ...] = ("left alone", "mix followed", "fine-tuned online", "warm-started", "retrained")


class BacktestOptions(Options):
    """Periods that are walked through one after another, each predicted by what was known when it began."""

    periods: int = Field(
        8, ge=2, description="maximum number, starting at the split's `test_from`; without it, the last ones of the log"
    )
    period: Annotated[Seconds, Field(gt=0)] = Field(7 * 86_400.0, description="length of a period, such as `7 days`")
    models: list[str] | None = Field(
        None, description="labels of `compare.models`; the experiment's own model if unset"
    )
    policies: list[Policy] = Field(list(POLICIES), min_length=1, description="which policies to compare")
    epochs: int = Field(1, ge=1, description="epochs of a warm start")
    replay: float = Field(1.0, ge=0, le=1, description="`training.replay` of a warm start")
    adapt: AdaptOptions = Field(AdaptOptions(), description="how the mix is followed, and when labels are known")
    finetune: FinetuneOptions = Field(FinetuneOptions(), description="options of online fine-tuning")
