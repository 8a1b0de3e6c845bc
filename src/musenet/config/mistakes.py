"""What pydantic finds wrong, as sentences: the key, what was found, what is allowed, the nearest valid spelling."""

import difflib
from typing import Any

from pydantic_core import ErrorDetails

from musenet.config.experiment import Experiment
from musenet.models.registry import MODELS
from musenet.sources.registry import SOURCES

_TAGS = MODELS | SOURCES


def sentence(detail: ErrorDetails) -> str:
    """One mistake in words: where, what was found, what is allowed."""
    key = _key([str(part) for part in detail["loc"]])
    if detail["type"] == "extra_forbidden":
        kind = str(detail["loc"][-2]) if len(detail["loc"]) > 1 else None
        return _unknown_key(key, kind if kind in _TAGS else None)
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_choice(key, detail["ctx"])
    found = "" if detail["type"] == "missing" or not key else f" (found {_short(detail['input'])})"
    message = detail["msg"].removeprefix("Value error, ")
    found_out = f"{message[0].lower()}{message[1:]}{found}"
    return f"{key}: {found_out}" if key else found_out


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


def _unknown_key(key: str, kind: str | None) -> str:
    """A key that does not exist, or not of this model or source."""
    wrong = key.rsplit(".", 1)[-1]
    keys = _all_keys() - {wrong} if kind is None else _TAGS[kind].options_type.model_fields
    near = difflib.get_close_matches(wrong, sorted(keys), n=1, cutoff=0.6)
    if near:
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = "see docs/configuration.md for the keys there are" if kind is None else f"there are {', '.join(keys)}"
    return f"{key}: there is no key '{wrong}' {'here' if kind is None else f'of {kind}'}; {hint}"


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
    schema = Experiment.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name for part in parts for name in part.get("properties", {})}
