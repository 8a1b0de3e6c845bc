"""Models of a configuration, trained where need be and put side by side in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from musenet.config.adaptation import AdaptedRow
from musenet.config.experiment import Experiment
from musenet.evaluation.draws import RESAMPLES
from musenet.files import write_text
from musenet.runs.run import Run
from musenet.studies.comparison.compare import compare_runs
from musenet.studies.comparison.results import Comparison
from musenet.studies.comparison.table import to_markdown
from musenet.studies.comparison.table_so_far import TableSoFar
from musenet.studies.comparison.transfer import OtherDataset
from musenet.studies.pool import TrainingPool
from musenet.studies.rows import train_rows


def compare_models(
    experiment: Experiment, labels: Sequence[str], seeds: int | None, folder: Path, pool: TrainingPool
) -> Comparison:
    """Train these rows of `compare.models` × seeds below the folder, and compare them there.

    Args:
        experiment: whose `compare` part says what the rows are.
        labels: the rows wanted.
        seeds: trainings per row; as configured if None.
        folder: of the comparison.
        pool: trains the runs.
    """
    options = experiment.compare
    groups = train_rows(experiment, labels, seeds, folder, pool, TableSoFar(folder, options, labels))
    adapted = {label: one for label, one in options.adapted.items() if one.row in groups}
    reference, base = (row if row in {*groups, *adapted} else None for row in (options.reference, options.base))
    return compare_and_write(groups, folder, reference, base, adapted=adapted)


def compare_and_write(
    groups: Mapping[str, Sequence[Run]],
    folder: Path | None,
    reference: str | None = None,
    base: str | None = None,
    *,
    resamples: int = RESAMPLES,
    other: OtherDataset | None = None,
    adapted: Mapping[str, AdaptedRow] = {},
) -> Comparison:
    """`compare_runs`, its parts of the split included; written as `comparison.json` and `comparison.md` to a folder."""
    comparison = compare_runs(groups, reference, base, resamples, slices=True, other=other, adapted=adapted)
    if folder is not None:
        comparison.write(folder / "comparison.json")
        write_text(folder / "comparison.md", to_markdown(comparison))
    return comparison
