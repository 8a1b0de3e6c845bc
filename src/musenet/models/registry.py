"""Which models there are: one line each."""

from typing import Annotated

from pydantic import Field

from musenet.dataset.batches import Schema
from musenet.models.baselines.base_model import BaseModel, BaseModelOptions
from musenet.models.baselines.dcn_v2 import DcnV2, DcnV2Options
from musenet.models.baselines.din import Din, DinOptions
from musenet.models.baselines.ncf import Ncf, NcfOptions
from musenet.models.baselines.ple import Ple, PleOptions
from musenet.models.baselines.repeatnet import RepeatNet, RepeatNetOptions
from musenet.models.baselines.revman import RevMan, RevManOptions
from musenet.models.baselines.star import Star, StarOptions
from musenet.models.baselines.wide_deep import WideDeep, WideDeepOptions
from musenet.models.interface import ClickModel, ModelOptions
from musenet.models.musenet.model import Musenet, MusenetOptions

MODELS: dict[str, type[ClickModel]] = {
    "musenet": Musenet,
    "base_model": BaseModel,
    "wide_deep": WideDeep,
    "ncf": Ncf,
    "din": Din,
    "repeatnet": RepeatNet,
    "dcn_v2": DcnV2,
    "ple": Ple,
    "revman": RevMan,
    "star": Star,
}

AnyModelOptions = Annotated[
    MusenetOptions
    | BaseModelOptions
    | WideDeepOptions
    | NcfOptions
    | DinOptions
    | RepeatNetOptions
    | DcnV2Options
    | PleOptions
    | RevManOptions
    | StarOptions,
    Field(discriminator="name"),
]


def build_model(options: ModelOptions, schema: Schema) -> ClickModel:
    """The model that the options name, with fresh weights from torch's global generator."""
    return MODELS[options.name](options, schema)
