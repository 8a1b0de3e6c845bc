"""`drift`: whether a log still is what an export's model was trained on, and which of columns, mix and taste moved."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from musenet.config.drift import DriftOptions
from musenet.errors import ExportError
from musenet.evaluation.draws import Sample, UserDraws
from musenet.evaluation.intervals import Interval, resample_model, seed_and_user_interval
from musenet.results import Number, Result, show
from musenet.serving.drift.answers import LogAnswers, answers_of
from musenet.serving.drift.moves import Moves, moves
from musenet.serving.drift.reference import METRICS, REFERENCE, Reference
from musenet.serving.drift.stability import by_chance, stability
from musenet.serving.prediction.histories import Histories
from musenet.serving.scorer.scorer import Scorer

if TYPE_CHECKING:
    from musenet.sources.log import AnyPath

RESAMPLES = 200
Mover = Literal["columns", "mix", "taste"]


class ColumnDrift(Result):
    """A column against training, and its unseen values against validation."""

    column: str
    stability: Number
    """The population stability index; nan for ids."""
    by_chance: Number
    """What it is on average where nothing moved."""
    unseen: Number
    """Share of the values that are served as unseen."""
    unseen_before: Number
    moved: bool


class Day(Result):
    """A local day of the log."""

    day: str
    impressions: int
    figures: dict[str, Interval]
    """AUC, logloss, and predicted over observed clicks."""


class Drift(Result):
    """What `drift` found."""

    written_by: ClassVar[str] = "`musenet drift`"

    model: str
    log: str
    requests: int
    impressions: int
    positives: int
    users: int
    moved: list[Mover]
    """Which of the three moved; none if the list is empty."""
    columns: list[ColumnDrift]
    scenarios: dict[str, Any] | None
    """`names` of the scenarios, `stability` of their shares, `share` now and `share_before` in validation; or None."""
    answers: Moves | None
    """Mix and taste; None where the log holds one kind of label alone."""
    before: dict[str, Interval]
    """The figures in validation."""
    whole: dict[str, Interval]
    """Those in the log."""
    days: list[Day]
    thresholds: dict[str, Number]

    def rows(self) -> list[dict[str, Any]]:
        """A row per column."""
        return [one.to_json() for one in self.columns]

    def show(self, console: Console) -> None:
        """Print what moved, the columns that did or came near, and the days."""
        named = " and ".join(self.moved) or "nothing"
        console.print(f"{self.log}: {named} changed against {self.model}.")
        if self.answers is not None:
            found = self.answers
            console.print(
                f"Knowing the new mix and taste would save {100 * found.saved:.2f} % of the logloss (p {found.p:.2g}); "
                f"the mix's own part of that is {found.own_mix:.0%}, the taste's {found.own_taste:.0%}."
            )
        if self.scenarios is not None:
            told = (self.scenarios[key] for key in ("names", "share_before", "share"))
            shares = ", ".join(f"{name} {before:.0%}→{now:.0%}" for name, before, now in zip(*told, strict=True))
            console.print(f"Shares of the scenarios: {shares} (stability {self.scenarios['stability']:.3f}).")
        table = Table("column", "stability", "by chance", "unseen", "before", "changed")
        for one in self.most_moved():
            table.add_row(
                one.column,
                "–" if math.isnan(one.stability) else f"{one.stability:.3f}",
                "–" if math.isnan(one.by_chance) else f"{one.by_chance:.3f}",
                f"{one.unseen:.1%}",
                f"{one.unseen_before:.1%}",
                "yes" if one.moved else "",
            )
        console.print(table)
        table = Table("day", "impressions", "AUC", "logloss", "predicted / observed")
        table.add_row("validation", "", *(_told(self.before[name]) for name in METRICS))
        for day in self.days:
            table.add_row(day.day, f"{day.impressions:,}", *(_told(day.figures[name]) for name in METRICS))
        console.print(table)

    def most_moved(self) -> list[ColumnDrift]:
        """The columns, those that moved most first."""
        return sorted(self.columns, key=lambda one: (not one.moved, -np.nan_to_num(one.stability - one.by_chance)))


show.register(Drift, Drift.show)


def drift(scorer: Scorer, log: "AnyPath", histories: Histories | None, options: DriftOptions) -> Drift:
    """Compare a log of answered impressions with what an export was trained on.

    The log is as training's was: with the same columns under the same names, a column of labels, and as many of the
    negatives.

    Args:
        scorer: an opened export.
        log: impressions, in files as of `predict_files`.
        histories: what is known of the users' past.
        options: thresholds.

    Raises:
        ExportError: if the export says nothing of the periods that it comes from.
        DataError: naming file, row and column, if the log cannot be read.
    """
    file = scorer.folder / REFERENCE
    if REFERENCE not in scorer.manifest.checksums:
        raise ExportError(
            f"{scorer.folder} says nothing of the periods that it comes from: its run had no validation to compare "
            "with, or an earlier version exported it; export the run again"
        )
    reference = Reference.read(file)
    told = answers_of(scorer, log, reference.columns, histories)
    answered = told.answered
    label = answered.label
    both = 0 < label.sum() < len(label)
    columns = list(_columns(reference, told, options))
    found = moves(answered, reference.answers, options) if both else None
    named: dict[Mover, bool] = {
        "columns": any(one.moved for one in columns),
        "mix": found is not None and found.mix,
        "taste": found is not None and found.taste,
    }
    days = list(_days(scorer.manifest.timezone, told))
    return Drift(
        model=scorer.version,
        log=str(log),
        requests=len(answered.sizes),
        impressions=len(label),
        positives=int(label.sum()),
        users=len(np.unique(answered.user)),
        moved=[name for name, moved in named.items() if moved],
        columns=columns,
        scenarios=_scenarios(reference, told, scorer.manifest.scenario_names),
        answers=found,
        before=reference.figures,
        whole=_figures(told, np.ones(len(answered.sizes), dtype=bool)),
        days=days,
        thresholds=options.model_dump(),
    )


def _columns(reference: Reference, told: LogAnswers, options: DriftOptions) -> Iterator[ColumnDrift]:
    users = len(np.unique(told.answered.user))
    for column, counts, (unseen, values) in zip(reference.columns, told.bins, told.unseen, strict=True):
        index = stability(column.counts, counts.tolist()) if column.counts else float("nan")
        chance = by_chance(len(column.counts), reference.users, users) if column.counts else float("nan")
        share = unseen / max(values, 1)
        moved = index - chance > options.stability or share - column.unseen_share > options.unseen
        yield ColumnDrift(
            column=column.name,
            stability=index,
            by_chance=chance,
            unseen=share,
            unseen_before=column.unseen_share,
            moved=moved,
        )


def _scenarios(reference: Reference, told: LogAnswers, names: Sequence[str]) -> dict[str, Any] | None:
    if len(reference.share) < 2:
        return None
    share = np.exp(told.answered.log_assignment).mean(0)
    before = np.array(reference.share) * reference.requests
    return {
        "names": list(names) or [f"scenario {k}" for k in range(len(share))],
        "stability": stability(before.tolist(), (share * len(told.time)).tolist()),
        "share": share.tolist(),
        "share_before": reference.share,
    }


def _days(timezone: str, told: LogAnswers) -> Iterator[Day]:
    times = pl.Series(told.time).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    days = times.dt.convert_time_zone(timezone).dt.strftime("%Y-%m-%d").to_numpy()
    for day in np.unique(days):
        of_day = days == day
        yield Day(day=str(day), impressions=int(told.answered.sizes[of_day].sum()), figures=_figures(told, of_day))


def _figures(told: LogAnswers, requests: Any) -> dict[str, Interval]:
    """`METRICS` of these requests (R), with intervals over users; nan where there is one kind of label alone."""
    answered = told.answered
    rows = np.repeat(requests, answered.sizes)
    of = np.repeat(np.arange(len(requests)), answered.sizes)[rows]
    sample = Sample(answered.label[rows], told.predictions.logit[rows], answered.user[of], of)
    measured = resample_model(sample, UserDraws(sample.user, RESAMPLES), METRICS)
    return {name: seed_and_user_interval(measured, name) for name in METRICS}


def _told(interval: Interval) -> str:
    return f"{interval.value:.4f} ({interval.low:.4f} … {interval.high:.4f})"
