"""Thresholds of `drift`: those of the export's configuration, and what is set on the command line."""

from collections.abc import Sequence

from pydantic import ValidationError

from musenet.config.drift import DriftOptions
from musenet.config.loading import apply_overrides
from musenet.config.mistakes import sentence
from musenet.errors import ConfigError
from musenet.serving.scorer.scorer import Scorer


def thresholds(scorer: Scorer, overrides: Sequence[str]) -> DriftOptions:
    """The export's own, changed by `drift.key=value`; raises `ConfigError` for what is none of its keys and values."""
    content = apply_overrides({"drift": scorer.manifest.drift.model_dump()}, list(overrides))
    if others := content.keys() - {"drift"}:
        raise ConfigError(f"--set {min(others)}: only keys of `drift` can be set here, as --set drift.stability=0.1")
    try:
        return DriftOptions.model_validate(content["drift"])
    except ValidationError as error:
        raise ConfigError(f"--set drift: {sentence(error.errors(include_url=False)[0])}") from error
