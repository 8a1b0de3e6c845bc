"""Which models there are: one line each, and those that installed packages add (docs/extending.md).

A configuration is read with the options alone. The models themselves, and PyTorch, are imported once one is built.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from musenet.models.baselines.crosses.options import DcnV2Options, DeepFmOptions, NcfOptions, WideDeepOptions
from musenet.models.baselines.histories.options import AtRankOptions, DinOptions, HifnOptions, RepeatNetOptions
from musenet.models.baselines.options import BaseModelOptions, LightGbmOptions
from musenet.models.baselines.scenarios.options import (
    AdaptDhmOptions,
    PleOptions,
    RevManOptions,
    SarNetOptions,
    StarOptions,
    TreeMsOptions,
)
from musenet.models.musenet.options import MusenetOptions
from musenet.models.options import ModelOptions
from musenet.options import one_of
from musenet.plugins import installed, wrong_method, wrong_options

if TYPE_CHECKING:
    from musenet.dataset.batch import Schema
    from musenet.models.interface import ClickModel


class Own(NamedTuple):
    """A model of this package."""

    options_type: type[ModelOptions]
    place: str
    """Of the model below `musenet.models`."""


OWN = {
    "musenet": Own(MusenetOptions, "musenet.model.Musenet"),
    "base_model": Own(BaseModelOptions, "baselines.base_model.BaseModel"),
    "wide_deep": Own(WideDeepOptions, "baselines.crosses.wide_deep.WideDeep"),
    "deepfm": Own(DeepFmOptions, "baselines.crosses.deepfm.DeepFm"),
    "ncf": Own(NcfOptions, "baselines.crosses.ncf.Ncf"),
    "din": Own(DinOptions, "baselines.histories.din.Din"),
    "repeatnet": Own(RepeatNetOptions, "baselines.histories.repeatnet.RepeatNet"),
    "atrank": Own(AtRankOptions, "baselines.histories.atrank.AtRank"),
    "hifn": Own(HifnOptions, "baselines.histories.hifn.Hifn"),
    "dcn_v2": Own(DcnV2Options, "baselines.crosses.dcn_v2.DcnV2"),
    "ple": Own(PleOptions, "baselines.scenarios.ple.Ple"),
    "revman": Own(RevManOptions, "baselines.scenarios.revman.RevMan"),
    "star": Own(StarOptions, "baselines.scenarios.star.Star"),
    "sarnet": Own(SarNetOptions, "baselines.scenarios.sarnet.SarNet"),
    "treems": Own(TreeMsOptions, "baselines.scenarios.treems.TreeMs"),
    "adaptdhm": Own(AdaptDhmOptions, "baselines.scenarios.adaptdhm.AdaptDhm"),
    "lightgbm": Own(LightGbmOptions, "baselines.boosted_trees.LightGbm"),
}


def _wrong(name: str, model: Any) -> str | None:
    """What of another package's model is not as it has to be."""
    from musenet.models.interface import ClickModel

    if not (isinstance(model, type) and issubclass(model, ClickModel)):
        return "it is no subclass of ClickModel"
    if model.forward is ClickModel.forward:
        return "it has no forward(batch, progress)"
    return wrong_options(name, model, ModelOptions, "name") or wrong_method(
        model, forward="batch, progress", losses="prediction, batch, progress"
    )


MODELS: dict[str, Any] = installed("musenet.models", OWN, _wrong)
"""By name; those of other packages are `ClickModel`s."""

if TYPE_CHECKING:
    AnyModelOptions = ModelOptions
else:
    AnyModelOptions = one_of((model.options_type for model in MODELS.values()), "name")


def model_type(name: str) -> "type[ClickModel]":
    """The model of this name."""
    found = MODELS[name]
    if isinstance(found, Own):
        module, _, model = found.place.rpartition(".")
        found = getattr(import_module(f"musenet.models.{module}"), model)
    return found  # type: ignore[no-any-return]


def build_model(options: ModelOptions, schema: "Schema") -> "ClickModel":
    """The model that the options name, with fresh weights from torch's global generator.

    Vectors reach it as the numbers that they are projected to. What is not learned by gradient learns no projection,
    and gets them as they are.
    """
    if not options.by_gradient:
        return model_type(options.name)(options, schema)
    from musenet.models.vectors import project_vectors

    model = model_type(options.name)(options, schema.projected)
    project_vectors(model, schema)
    return model
