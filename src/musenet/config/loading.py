"""Reading an experiment: a YAML, overrides, other values."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from musenet.config.experiment import Experiment
from musenet.config.mistakes import sentence
from musenet.config.written import Content
from musenet.config.yaml_text import read_content, read_yaml
from musenet.errors import ConfigError
from musenet.options import Options, reason, with_value

MISTAKES_SHOWN = 20


def load_experiment(path: Path, overrides: list[str] | None = None) -> Experiment:
    """Read a YAML file, apply `key.path=value` overrides and validate the whole.

    Raises:
        ConfigError: on a missing file, bad YAML, or anything that validation finds; one sentence per mistake.
    """
    content, text = read_content(path)
    return validate_experiment(apply_overrides(content, overrides or []), str(path), "" if overrides else text)


def apply_overrides(content: Content, overrides: list[str]) -> Content:
    """Set `key.path=value`, values read as YAML.

    >>> apply_overrides({"model": {"scenarios": 4}}, ["model.scenarios=6"])
    {'model': {'scenarios': 6}}
    >>> apply_overrides({"compare": {"tuning": None}}, ["compare.tuning.trials=3"])
    {'compare': {'tuning': {'trials': 3}}}
    """
    result = deepcopy(content)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {override}: write key.path=value, for example --set model.scenarios=6")
        *parents, last = key.strip().split(".")
        place = result
        for parent in parents:
            if place.get(parent) is None:  # what is switched off by null is there as soon as something in it is set
                place[parent] = {}
            place = place[parent]
            if not isinstance(place, dict):
                raise ConfigError(f"--set {override}: '{parent}' is a single value, nothing can be set below it")
        try:
            place[last] = read_yaml(value)
        except ValueError as error:
            raise ConfigError(f"--set {override[:80]}: the value {error}") from error
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


def validate_experiment(content: Content, origin: str, text: str = "") -> Experiment:
    """Validate a mapping; `origin` names it in messages, `text` is how it was written. Raises `ConfigError`."""
    try:
        return Experiment.read(content, text)
    except ValidationError as error:
        details = error.errors(include_url=False)
        sentences = list(dict.fromkeys(sentence(detail) for detail in details[:MISTAKES_SHOWN]))
        if len(details) > MISTAKES_SHOWN:
            sentences.append(f"and {len(details) - MISTAKES_SHOWN} mistakes more")
        raise ConfigError(f"{origin}: " + "; ".join(sentences)) from error


def checked_again(experiment: Experiment, overrides: list[str]) -> Experiment:
    """The same experiment anew, checked whole, since its fields may have been set; raises `ConfigError`."""
    found = validate_experiment(apply_overrides(experiment.content, overrides), experiment.name)
    found._written, found._frames = experiment._written, experiment._frames
    return found


def json_schema() -> Content:
    """The JSON schema of a configuration, for editors to complete."""
    return Experiment.model_json_schema()
