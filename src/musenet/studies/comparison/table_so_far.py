"""The table of a comparison that is not finished yet, on disk for whoever waits."""

import time
from collections.abc import Sequence
from pathlib import Path

from musenet.config.studies import CompareOptions
from musenet.files import write_text
from musenet.studies.comparison.compare import compare_runs
from musenet.studies.comparison.table import to_markdown
from musenet.studies.rows import Groups

RESAMPLES = 50
OVERHEAD = 0.05
"""Share of the time that may go into tables that the next row replaces."""


class TableSoFar:
    """Writes `comparison.json` and `comparison.md` of the rows that have all their seeds.

    Args:
        folder: of the comparison.
        options: whose reference and base are taken once their rows are there, the first row until then.
        labels: of all rows that will be there.
    """

    def __init__(self, folder: Path, options: CompareOptions, labels: Sequence[str]) -> None:
        self.folder, self.options, self.labels = folder, options, labels
        self._began = time.monotonic()
        self._spent = 0.0

    def __call__(self, groups: Groups) -> None:
        """Write the table, unless tables have taken more than their share of the time."""
        begin = time.monotonic()
        if self._spent > OVERHEAD * (begin - self._began):
            return
        reference, base = (row if row in groups else None for row in (self.options.reference, self.options.base))
        comparison = compare_runs(groups, reference, base, resamples=RESAMPLES)
        missing = [label for label in self.labels if label not in groups]
        comparison.model_copy(update={"missing": missing}).write(self.folder / "comparison.json")
        progress = f"So far: {len(groups)} of {len(self.labels)} rows, intervals of {RESAMPLES} resamples."
        write_text(self.folder / "comparison.md", f"{progress}\n\n{to_markdown(comparison)}")
        self._spent += time.monotonic() - begin
