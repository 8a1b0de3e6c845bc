"""Which models there are: one line each."""

from typing import Annotated

from pydantic import Field

from musenet.data.batches import Schema
from musenet.models.baselines.base_model import BaseModel, BaseModelOptions
from musenet.models.baselines.ple import Ple, PleOptions
from musenet.models.baselines.revman import RevMan, RevManOptions
from musenet.models.baselines.star import Star, StarOptions
from musenet.models.interface import ClickModel, ModelOptions
from musenet.models.musenet.model import Musenet, MusenetOptions

MODELS: dict[str, type[ClickModel]] = {
    "musenet": Musenet,
    "base_model": BaseModel,
    "ple": Ple,
    "revman": RevMan,
    "star": Star,
}

AnyModelOptions = Annotated[
    MusenetOptions | BaseModelOptions | PleOptions | RevManOptions | StarOptions, Field(discriminator="name")
]


def build_model(options: ModelOptions, schema: Schema) -> ClickModel:
    """The model that the options name, with fresh weights from torch's global generator."""
    return MODELS[options.name](options, schema)
