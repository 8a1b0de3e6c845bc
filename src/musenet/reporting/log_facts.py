"""What the log is: periods, counts and rates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.evaluation.evaluation import local_day
from musenet.runs.run import Run


@dataclass(frozen=True)
class PeriodFacts:
    """One split of the log, or all of it."""

    first: str
    last: str
    """Days, in the log's timezone; empty for an empty split."""
    impressions: int
    requests: int
    users: int
    positives: int
    click_rate: float
    repeat_share: float
    """Of the positives: those that repeat an earlier event; nan if the log knows no repeats."""


@dataclass(frozen=True)
class LogFacts:
    """What the log is."""

    name: str
    protocol: str
    periods: dict[Split, PeriodFacts]
    whole: PeriodFacts


def log_facts(run: Run) -> LogFacts:
    """Counts, periods and rates of the whole log and of each split."""
    dataset = run.dataset
    splits: tuple[Split, ...] = ("train", "valid", "test")
    return LogFacts(
        name=run.experiment.name,
        protocol=dataset.manifest.protocol,
        periods={split: _period(dataset, [split]) for split in splits},
        whole=_period(dataset, splits),
    )


def _period(dataset: Dataset, splits: Sequence[Split]) -> PeriodFacts:
    """These neighbouring splits taken together."""
    manifest = dataset.manifest
    parts = [manifest.splits[split] for split in splits if manifest.splits[split].impressions]
    impressions, positives = sum(part.impressions for part in parts), sum(part.positives for part in parts)
    rows = np.concatenate([np.arange(part.begin, part.end) for part in parts]) if parts else np.arange(0)
    firsts = [part.first_time for part in parts if part.first_time is not None]
    lasts = [part.last_time for part in parts if part.last_time is not None]
    return PeriodFacts(
        first=local_day(min(firsts), manifest.timezone) if firsts else "",
        last=local_day(max(lasts), manifest.timezone) if lasts else "",
        impressions=impressions,
        requests=len(rows),
        users=len(np.unique(dataset.requests.user[rows])),
        positives=positives,
        click_rate=positives / impressions if impressions else float("nan"),
        repeat_share=_repeat_share(dataset, [(part.begin, part.end) for part in parts]),
    )


def _repeat_share(dataset: Dataset, spans: Sequence[tuple[int, int]]) -> float:
    """Of the positives of these requests, the share that repeats an earlier event; nan if that is unknown."""
    label, repeat = dataset.candidates.label, dataset.candidates.repeat_indicator
    if not dataset.manifest.has_repeats or repeat is None:
        return float("nan")
    positives = repeats = 0
    for begin, end in spans:
        rows = dataset.candidates_between(begin, end)
        clicked = label[rows] == 1
        positives += int(clicked.sum())
        repeats += int((clicked & (repeat[rows] > 0)).sum())
    return repeats / positives if positives else float("nan")
