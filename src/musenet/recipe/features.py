"""Which columns are features, of which side and type; and what they become in a dataset."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from musenet.options import Options

Side = Literal["user", "item", "context", "candidate"]
LONGEST_VECTOR = 8192


class CategoricalOptions(Options, frozen=True):
    """A column whose equal values mean the same."""

    min_count: int = Field(
        2, ge=1, description="values rarer than this in the training period share the embedding of unseen values"
    )
    vocabulary: str | None = Field(
        None, description="share vocabulary and embedding with this other column: `{home_city: {vocabulary: city}}`"
    )


class NumericOptions(Options, frozen=True):
    """A column whose size matters."""

    numeric: Literal["log", "standardise", "quantiles"]
    buckets: int = Field(16, ge=2, le=1000, description="number of quantile buckets")


class MultiValuedOptions(Options, frozen=True):
    """A column that holds several values: a list, or text with a separator."""

    multi_valued: str = Field(",", description="the separator, if the column is text; lists need none")
    length: int = Field(8, ge=1, le=10_000, description="values kept per row")
    min_count: int = Field(2, ge=1)
    vocabulary: str | None = None


class VectorOptions(Options, frozen=True):
    """A column of lists of numbers, all of one length, such as the embeddings of texts or pictures."""

    vector: int = Field(ge=1, le=LONGEST_VECTOR, description="length of the vectors")
    projection: int = Field(16, ge=1, le=1024, description="size of the learned projection")


FeatureKind = Literal["categorical", "multi_valued", "position"]
# Of two that fit equally well, the first is taken: a bare vocabulary or min_count is a categorical column.
FeatureOptions = FeatureKind | NumericOptions | CategoricalOptions | MultiValuedOptions | VectorOptions
FeatureEntry = str | Annotated[dict[str, FeatureOptions], Field(min_length=1, max_length=1)]


class Feature(Options, frozen=True):
    """One feature with everything that the short forms leave out."""

    name: str
    side: Side
    type: Literal["categorical", "numeric", "multi_valued", "position", "vector"]
    options: NumericOptions | MultiValuedOptions | CategoricalOptions | VectorOptions

    @property
    def vocabulary(self) -> str:
        """Name of the vocabulary that encodes it; columns of one name share it."""
        return getattr(self.options, "vocabulary", None) or self.name


def _resolve(entry: FeatureEntry, side: Side) -> Feature:
    name, kind = (entry, "categorical") if isinstance(entry, str) else next(iter(entry.items()))
    if isinstance(kind, NumericOptions):
        return Feature(name=name, side=side, type="numeric", options=kind)
    if isinstance(kind, VectorOptions):
        return Feature(name=name, side=side, type="vector", options=kind)
    if kind == "multi_valued" or isinstance(kind, MultiValuedOptions):
        options = kind if isinstance(kind, MultiValuedOptions) else MultiValuedOptions.model_validate({})
        return Feature(name=name, side=side, type="multi_valued", options=options)
    if isinstance(kind, CategoricalOptions):
        return Feature(name=name, side=side, type="categorical", options=kind)
    default = CategoricalOptions.model_validate({})
    return Feature(name=name, side=side, type="position" if kind == "position" else "categorical", options=default)


class Features(Options):
    """The features of each side; a plain name is a categorical one.

    `user` and `item` features are attributes of the users and items relations (or columns of the impressions that do
    not change for one user or item), `context` is the same for a whole request, `candidate` differs inside one. The
    ids themselves are always encoded; whether a model sees them is the model's option `ids`.
    """

    user: list[FeatureEntry] = []
    item: list[FeatureEntry] = []
    context: list[FeatureEntry] = []
    candidate: list[FeatureEntry] = []
    relative: bool = Field(
        False,
        description="add each candidate's place in its list by every number and repeat feature; not with sampled "
        "negatives",
    )

    def resolved(self) -> Iterator[Feature]:
        """Every feature in full, in the order written: user, item, context, candidate."""
        sides: tuple[Side, ...] = ("user", "item", "context", "candidate")
        for side in sides:
            for entry in getattr(self, side):
                yield _resolve(entry, side)

    @model_validator(mode="after")
    def _distinct(self) -> "Features":
        seen: dict[str, str] = {}
        for feature in self.resolved():
            if feature.name in seen:
                raise ValueError(
                    f"'{feature.name}' is listed twice ({seen[feature.name]} and {feature.side}): keep one"
                )
            if feature.type == "position" and feature.side != "candidate":
                raise ValueError(f"'{feature.name}' is a position, so it belongs under candidate, not {feature.side}")
            seen[feature.name] = feature.side
        return self
