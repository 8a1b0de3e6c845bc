"""Which fields a dataset has: every column in use with its side, its type, its vocabulary and its file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from musenet.dataset.layout import RELATIONS, reserved_columns
from musenet.dataset.manifest import FieldSide
from musenet.dataset.roles import ITEM, USER
from musenet.errors import DataError
from musenet.files import LONGEST_NAME
from musenet.preparation.relations.columns import role_name
from musenet.recipe.features import CategoricalOptions, Feature, MultiValuedOptions, NumericOptions, VectorOptions
from musenet.recipe.recipe import Recipe
from musenet.sources.tables import Tables


@dataclass(frozen=True)
class PlannedField:
    """A column on its way to one field, or to up to three if it is numeric."""

    column: str
    """In the prepared relation; the ids stand under their role names."""
    source: str
    """The log's own name."""
    name: str
    """Of the file."""
    side: FieldSide
    feature: Feature
    vocabulary: str
    """Safe as a file's name."""
    is_id: bool = False

    @property
    def numeric(self) -> NumericOptions | None:
        """How it is transformed, if it is numeric."""
        return self.feature.options if isinstance(self.feature.options, NumericOptions) else None

    @property
    def vector(self) -> VectorOptions | None:
        """How long it is and what it is projected to, if it is a vector."""
        return self.feature.options if isinstance(self.feature.options, VectorOptions) else None

    @property
    def has_codes(self) -> bool:
        """Whether it becomes codes of a vocabulary that is fitted before; else it is written raw first."""
        return self.numeric is None and self.vector is None

    @property
    def list_length(self) -> int | None:
        """How many values are kept, if it is multi-valued."""
        return self.feature.options.length if isinstance(self.feature.options, MultiValuedOptions) else None


@dataclass
class _Names:
    """File names that are safe on every system, distinct even where case does not count."""

    taken: dict[str, set[str]] = field(default_factory=dict)

    def pick(self, among: str, name: str, reserved: set[str]) -> str:
        taken = self.taken.setdefault(among, set())
        base = re.sub(r"[^\w. -]", "_", name).strip(". ")[:LONGEST_NAME] or "column"
        candidate, number = base, 2
        while any(f"{candidate}{ending}".lower() in taken | reserved for ending in ("", ".rank", ".missing")):
            candidate, number = f"{base}_{number}", number + 1
        taken.update(f"{candidate}{ending}".lower() for ending in ("", ".rank", ".missing"))
        return candidate


def plan_fields(recipe: Recipe, tables: Tables) -> list[PlannedField]:
    """All fields in their order: each side with its id first, then the history.

    Raises:
        DataError: if a vocabulary would have to be both values and quantile buckets.
    """
    names, vocabularies = _Names(), dict[str, str]()

    def plan(feature: Feature, side: FieldSide) -> PlannedField:
        among = "history" if side == "history" else "features"  # of all sides: scales are kept by these names
        vocabulary = vocabularies.get(feature.vocabulary)
        if vocabulary is None:
            vocabulary = vocabularies[feature.vocabulary] = names.pick("vocabularies", feature.vocabulary, set())
        return PlannedField(
            column=role_name(tables, feature.name),
            source=feature.name,
            name=names.pick(among, feature.name, reserved_columns(RELATIONS[side])),
            side=side,
            feature=feature,
            vocabulary=vocabulary,
            is_id=role_name(tables, feature.name) in (USER, ITEM),
        )

    features = list(_with_ids(recipe, tables))
    planned = [plan(feature, feature.side) for feature in features]
    by_name = {feature.name: feature for feature in features}
    default = CategoricalOptions.model_validate({})
    for name in dict.fromkeys(recipe.history.columns):
        known = by_name.get(name)
        if known is None or known.type == "position" or not _shares(known):
            known = Feature(name=name, side="context", type="categorical", options=default)
        planned.append(plan(known, "history"))
    _check_buckets(planned)
    return planned


def _shares(feature: Feature) -> bool:
    """Whether a history column of this name is encoded as the feature is; other numbers are values of their own."""
    return not isinstance(feature.options, NumericOptions) or feature.options.numeric == "quantiles"


def _with_ids(recipe: Recipe, tables: Tables) -> Iterator[Feature]:
    features = list(recipe.features.resolved())
    listed = {feature.name: feature for feature in features}
    default = CategoricalOptions.model_validate({})
    ids = {tables.user_column: "user", tables.item_column: "item"}
    for name, side in ids.items():
        feature = listed.get(name)
        if feature is not None and feature.type != "categorical":
            raise DataError(f"features.{side}: '{name}' is the {side} id, so it is categorical, not {feature.type}")
    for side in ("user", "item", "context", "candidate"):
        for name, its_side in ids.items():
            if side == its_side:
                yield listed.get(name) or Feature(name=name, side=side, type="categorical", options=default)
        yield from (feature for feature in features if feature.side == side and feature.name not in ids)


def _check_buckets(planned: list[PlannedField]) -> None:
    owners = {entry.vocabulary: entry for entry in planned if entry.numeric and entry.side != "history"}
    for entry in planned:
        owner = owners.get(entry.vocabulary)
        quantiles = owner is not None and owner.numeric is not None and owner.numeric.numeric == "quantiles"
        if owner is not None and quantiles and entry.numeric is None:
            raise DataError(
                f"'{entry.source}' cannot share the vocabulary of '{owner.source}', which is cut into quantiles: "
                "give both one type"
            )
