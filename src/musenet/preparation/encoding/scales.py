"""Numbers and vectors are measured: by what training saw of them, or as they were measured before."""

from dataclasses import dataclass

from musenet.dataset.manifest import Field, Manifest
from musenet.dataset.numeric import NumericTransform, VectorScale
from musenet.preparation.encoding.encode import Folders
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.numbers import Impressions, fit_column, share_missing, write_numeric
from musenet.preparation.encoding.vectors import fit_vector, write_vector


@dataclass(frozen=True)
class Scales:
    """How numbers and vectors were measured before, by the names of their fields."""

    numeric: dict[str, NumericTransform]
    vectors: dict[str, VectorScale]

    @classmethod
    def of(cls, manifest: Manifest) -> "Scales":
        """Those of a dataset."""
        return cls(
            {name: NumericTransform(**one) for name, one in manifest.numeric.items()},
            {name: VectorScale(**one) for name, one in manifest.vectors.items()},
        )


def finish_number(
    folders: Folders, entry: PlannedField, shown: Impressions, before: Scales | None
) -> tuple[NumericTransform, list[Field], float]:
    """Write what a number becomes whose raw values are written: its scale, its fields, and what share lacks it."""
    if before is not None:
        transform, missing = before.numeric[entry.name], share_missing(folders, entry, shown)
    else:
        fitted = fit_column(folders, entry, shown)
        transform, missing = fitted.transform, fitted.missing
    return transform, write_numeric(folders, entry, transform), missing


def finish_vector(
    folders: Folders, entry: PlannedField, shown: Impressions, before: Scales | None
) -> tuple[VectorScale, list[Field], float]:
    """Write what a vector becomes whose raw numbers are written: its scale, its fields, and what share lacks it."""
    if before is not None:
        scale, missing = before.vectors[entry.name], share_missing(folders, entry, shown)
    else:
        scale, missing = fit_vector(folders, entry, shown)
    return scale, write_vector(folders, entry, scale), missing
