"""What became of the scenarios of the run that a training began from, on requests that neither was trained on."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from musenet.dataset.compatibility import rows_before, scales_moved
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.scenario_figures import scenario_figures
from musenet.evaluation.scoring import predict, scoring_device
from musenet.portraits.names import scenario_names
from musenet.portraits.portraits import Portrait, portraits_of
from musenet.results import Number, Result
from musenet.runs.run import Run
from musenet.training.warm_start import first_model


@dataclass(frozen=True)
class Moved:
    """One scenario before and after training, on the requests of validation."""

    scenario: int
    share_before: Number
    share: Number
    kept: Number
    """Of the requests that it was the likeliest scenario of, how many it still is; nan if there were none."""
    likeliest: int
    """The scenario that is the likeliest for most of these requests now."""
    before: Portrait
    after: Portrait


class WarmStart(Result):
    """What a training began with."""

    written_by: ClassVar[str] = "`musenet train --from`"

    run: str
    weights: str
    """SHA-256 of the weights that it began with."""
    rows_kept: int
    """Values that both datasets know, whose vectors were kept."""
    rows_fresh: int
    """Values that are new, whose vectors began fresh."""
    scales: dict[str, Number]
    """By how many deviations each number's scale moved between the two datasets."""
    scenarios: list[Moved]
    """Empty for a model without, and where scenarios were dropped on the way."""


def warm_start_of(run: Run) -> WarmStart | None:
    """What a trained run began with, and what became of that; None if it began with fresh weights.

    Raises:
        RunError: if the run that it began from is gone, or has other weights now.
    """
    start = run.folder.start
    if start is None:
        return None
    known = rows_before(start.dataset, run.dataset)[1:] >= 0
    model = first_model(run.experiment, run.dataset, start)
    scenario_count = model.scenario_count() or 1
    moved: list[Moved] = []
    if scenario_count > 1 and run.dataset.manifest.splits["valid"].impressions:
        placed = model.to(scoring_device(run.experiment.training), run.experiment.training.dtype).eval()
        before, after = predict(placed, run.dataset, "valid"), run.predictions("valid")
        if after.assignment is not None and after.assignment.shape[1] == scenario_count:
            moved = _moved(run, Run(start), before, after)
    return WarmStart(
        run=str(start.path),
        weights=start.model_checksum,
        rows_kept=int(known.sum()),
        rows_fresh=int((~known).sum()),
        scales=scales_moved(start.dataset.manifest, run.dataset.manifest),
        scenarios=moved,
    )


def _moved(run: Run, start: Run, before: Predictions, after: Predictions) -> list[Moved]:
    assert before.assignment is not None
    assert after.assignment is not None
    draws, count = UserDraws(before.user, RESAMPLES), before.assignment.shape[1]
    was, now = before.assignment.argmax(axis=1), after.assignment.argmax(axis=1)
    where = np.stack([np.bincount(now[was == k], minlength=count) for k in range(count)])  # (K before, K after)
    likeliest = [int(row.argmax()) if row.any() else k for k, row in enumerate(where)]
    called = scenario_names(start)
    portraits = []
    for one, names in ((before, called), (after, carried(called, likeliest))):
        figures = scenario_figures(one, draws)
        if figures is None:
            return []
        portraits.append(portraits_of(run.dataset, one, figures, names))
    return [
        Moved(
            scenario=k,
            share_before=float(before.assignment[:, k].mean()),
            share=float(after.assignment[:, k].mean()),
            kept=float(where[k, k] / where[k].sum()) if where[k].any() else float("nan"),
            likeliest=likeliest[k],
            before=portraits[0][k],
            after=portraits[1][k],
        )
        for k in range(count)
    ]


def carried(names: Sequence[str], likeliest: Sequence[int]) -> list[str]:
    """The names by the scenarios that they are of now; by their numbers, if two became one."""
    if len(set(likeliest)) < len(likeliest):
        return list(names)
    return [names[likeliest.index(k)] for k in range(len(names))]
