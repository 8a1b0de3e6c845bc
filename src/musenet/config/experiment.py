"""The experiment: one YAML, validated whole before anything runs.

Each part's options stand beside what they configure; this file only composes them, and turns what pydantic finds wrong
into sentences that name the key, what was found, what is allowed and the nearest valid spelling.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from musenet.config.search_space import Choices, TuningOptions, check_space
from musenet.config.training import TrainingOptions
from musenet.errors import ConfigError
from musenet.models.musenet.model import MusenetOptions
from musenet.models.registry import MODELS, AnyModelOptions
from musenet.options import Options, reason, with_value
from musenet.recipe.recipe import Recipe
from musenet.sources.ali_ads import AliAdsOptions
from musenet.sources.complete_journey import CompleteJourneyOptions
from musenet.sources.kuairand import KuaiRandOptions
from musenet.sources.own_files import OwnFilesOptions

_TAGS = {*MODELS, "own_files", "complete_journey", "kuairand", "ali_ads"}

DataOptions = Annotated[
    OwnFilesOptions | CompleteJourneyOptions | KuaiRandOptions | AliAdsOptions, Field(discriminator="source")
]


class TopOptions(Options):
    """More seeds for the best rows by validation AUC, the diagnostics `true` and `permuted` left out."""

    count: int = Field(3, ge=1, description="rows that get them")
    seeds: int = Field(5, ge=1, description="trainings of each of them in all")


class CompareOptions(Options):
    """What `compare` puts side by side."""

    models: dict[str, AnyModelOptions] = Field({}, description="a row of the table each: its label, and the model")
    reference: str | None = Field(None, description="the row that all others are compared with; the first if unset")
    base: str | None = Field(None, description="the row that RelaImpr counts from; the first if unset")
    seeds: int = Field(3, ge=1)
    top: TopOptions | None = Field(None, description="more seeds for the best rows; none if unset")
    tuning: TuningOptions | None = Field(None, description="tuning with an equal budget; none if unset")

    @model_validator(mode="after")
    def _rows_exist(self) -> "CompareOptions":
        tuning = self.tuning or TuningOptions()
        named: dict[str, list[str | None]] = {
            "reference": [self.reference],
            "base": [self.base],
            "tuning.own": [*tuning.own],
            "tuning.like": [*tuning.like, *tuning.like.values()],
        }
        for key, labels in named.items():
            for row in labels:
                if row is not None and row not in self.models:
                    raise ValueError(f"{key}: '{row}' is none of the models: {', '.join(self.models)}")
        for row, other in tuning.like.items():
            if other in tuning.like or row in tuning.own:
                raise ValueError(f"tuning.like: '{row}' must be like a row that is tuned, and have no space of its own")
        return self


class SweepOptions(Options):
    """What `sweep` varies: one key at a time around the configured values."""

    parameters: dict[str, Choices] = Field(
        {"model.scenarios": [1, 2, 4, 8], "model.auxiliary": [0, 0.02, 0.1, 0.5, 1]},
        description="keys of `model` or `training`, and the values to try (the paper's Fig 4 if unset)",
    )
    models: list[str] | None = Field(
        None, description="labels of `compare.models`; if unset, the experiment's musenet, soft and hard"
    )
    split: Literal["valid", "test"] = Field("valid", description="which period is measured; choose on validation")


class Experiment(Recipe):
    """A log, how it is prepared, a model and how it is trained."""

    name: str = Field(pattern=r"^[\w.-]+$", description="names the folders of the dataset and of the runs")
    data: DataOptions
    model: AnyModelOptions = MusenetOptions()
    training: TrainingOptions = TrainingOptions()
    compare: CompareOptions = CompareOptions()
    sweep: SweepOptions = SweepOptions()

    @model_validator(mode="after")
    def _tuning_fits(self) -> "Experiment":
        models, tuning = self.compare.models, self.compare.tuning
        if tuning is not None and models:
            check_space(tuning.shared, list(models.values()), self.training, "compare.tuning.shared")
            for label, space in tuning.own.items():
                check_space(space, [models[label]], self.training, f"compare.tuning.own.{label}")
        return self

    @property
    def recipe(self) -> Recipe:
        """The part that decides the dataset."""
        return Recipe.model_validate({name: getattr(self, name) for name in Recipe.model_fields})


def load_experiment(path: Path, overrides: list[str] | None = None) -> Experiment:
    """Read a YAML file, apply `key.path=value` overrides and validate the whole.

    Raises:
        ConfigError: on a missing file, bad YAML, or anything that validation finds; one sentence per mistake.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file {path}: give the path of a configuration (`musenet init` writes one)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a text file ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} must hold keys and values (name, data, features, …), but holds {type(content).__name__}"
        )
    return validate_experiment(apply_overrides(content, overrides or []), str(path))


def apply_overrides(content: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Set `key.path=value`, values read as YAML.

    >>> apply_overrides({"model": {"scenarios": 4}}, ["model.scenarios=6"])
    {'model': {'scenarios': 6}}
    """
    result: dict[str, Any] = json.loads(json.dumps(content, default=str))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {override}: write key.path=value, for example --set model.scenarios=6")
        *parents, last = key.strip().split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {override}: '{parent}' is a single value, nothing can be set below it")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    return result


def with_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """The same experiment with other values of keys below `model` or `training`.

    Raises:
        ConfigError: if a key does not exist there, or does not take its value.
    """
    parts: dict[str, Options] = {"model": experiment.model, "training": experiment.training}
    for key, value in values.items():
        part, _, name = key.partition(".")
        try:
            parts[part] = with_value(parts[part], name, value)
        except KeyError as error:
            raise ConfigError(f"{experiment.name}: there is no key '{key}' in model and training") from error
        except ValidationError as error:
            raise ConfigError(f"{key}: {value!r} does not fit ({reason(error)})") from error
    return experiment.model_copy(update=parts)


def validate_experiment(content: dict[str, Any], origin: str) -> Experiment:
    """Validate a mapping; `origin` names it in messages. Raises `ConfigError`."""
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        details = error.errors(include_url=False)
        sentences = list(dict.fromkeys(_sentence(detail) for detail in details))
        raise ConfigError(f"{origin}: " + "; ".join(sentences)) from error


def json_schema() -> dict[str, Any]:
    """The JSON schema of a configuration, for editors to complete."""
    return Experiment.model_json_schema()


def _sentence(detail: ErrorDetails) -> str:
    """One mistake in words: where, what was found, what is allowed."""
    key = _key([str(part) for part in detail["loc"]])
    if detail["type"] == "extra_forbidden":
        return _unknown_key(key)
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_choice(key, detail["ctx"])
    found = "" if detail["type"] == "missing" or not key else f" (found {_short(detail['input'])})"
    message = detail["msg"].removeprefix("Value error, ")
    sentence = f"{message[0].lower()}{message[1:]}{found}"
    return f"{key}: {sentence}" if key else sentence


def _key(names: list[str]) -> str:
    """The key as it is written: without what pydantic adds to tell the members of a union apart."""
    written: list[str] = []
    for name in names:
        is_tag = written[-1:] in (["model"], ["data"]) or (written[:2] == ["compare", "models"] and len(written) == 3)
        if name.endswith("]") or "(" in name or (is_tag and name in _TAGS):
            continue
        written.append(name)
    return ".".join(written)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _unknown_key(key: str) -> str:
    wrong = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(wrong, sorted(_all_keys()), n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else "see docs/configuration.md for the keys there are"
    return f"{key}: there is no key '{wrong}' here; {hint}"


def _unknown_choice(key: str, context: dict[str, Any]) -> str:
    """A model or source that does not exist, or is not named at all."""
    name = str(context["discriminator"]).strip("'")
    if "tag" not in context:
        return f"{key}.{name} is missing: it says which one is meant"
    allowed = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
    near = difflib.get_close_matches(str(context["tag"]), allowed, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(allowed)}"
    return f"{key}.{name}: there is no '{context['tag']}'; {hint}"


def _all_keys() -> set[str]:
    schema = json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name for part in parts for name in part.get("properties", {})}
