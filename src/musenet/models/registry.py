"""Which models there are: one line each, and those that installed packages add (docs/extending.md)."""

from typing import TYPE_CHECKING

from musenet.dataset.batch import Schema
from musenet.models.baselines.base_model import BaseModel
from musenet.models.baselines.boosted_trees import LightGbm
from musenet.models.baselines.crosses.dcn_v2 import DcnV2
from musenet.models.baselines.crosses.deepfm import DeepFm
from musenet.models.baselines.crosses.ncf import Ncf
from musenet.models.baselines.crosses.wide_deep import WideDeep
from musenet.models.baselines.histories.atrank import AtRank
from musenet.models.baselines.histories.din import Din
from musenet.models.baselines.histories.hifn import Hifn
from musenet.models.baselines.histories.repeatnet import RepeatNet
from musenet.models.baselines.scenarios.adaptdhm import AdaptDhm
from musenet.models.baselines.scenarios.ple import Ple
from musenet.models.baselines.scenarios.revman import RevMan
from musenet.models.baselines.scenarios.sarnet import SarNet
from musenet.models.baselines.scenarios.star import Star
from musenet.models.baselines.scenarios.treems import TreeMs
from musenet.models.interface import ClickModel, ModelOptions
from musenet.models.musenet.model import Musenet
from musenet.models.vectors import project_vectors
from musenet.options import one_of
from musenet.plugins import installed

OWN: dict[str, type[ClickModel]] = {
    "musenet": Musenet,
    "base_model": BaseModel,
    "wide_deep": WideDeep,
    "deepfm": DeepFm,
    "ncf": Ncf,
    "din": Din,
    "repeatnet": RepeatNet,
    "atrank": AtRank,
    "hifn": Hifn,
    "dcn_v2": DcnV2,
    "ple": Ple,
    "revman": RevMan,
    "star": Star,
    "sarnet": SarNet,
    "treems": TreeMs,
    "adaptdhm": AdaptDhm,
    "lightgbm": LightGbm,
}
MODELS: dict[str, type[ClickModel]] = installed("musenet.models", OWN)

if TYPE_CHECKING:
    AnyModelOptions = ModelOptions
else:
    AnyModelOptions = one_of((model.options_type for model in MODELS.values()), "name")


def build_model(options: ModelOptions, schema: Schema) -> ClickModel:
    """The model that the options name, with fresh weights from torch's global generator.

    Vectors reach it as the numbers that they are projected to. What is not learned by gradient learns no projection,
    and gets them as they are.
    """
    if not options.by_gradient:
        return MODELS[options.name](options, schema)
    model = MODELS[options.name](options, schema.projected)
    project_vectors(model, schema)
    return model
