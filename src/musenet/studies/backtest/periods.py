"""Where the periods of a backtest begin, and the datasets that know no more than was known then."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from musenet.config.backtest import BacktestOptions
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.dataset.roles import MICROSECONDS
from musenet.errors import ConfigError, DataError
from musenet.evaluation.predictions import Integers
from musenet.preparation.relations.split import microseconds
from musenet.recipe.split import DaysSplit, PartsSplit, TimesSplit


@dataclass(frozen=True)
class Periods:
    """The periods that a log's test split is walked through in.

    Args:
        begins: in microseconds, ascending; the last one is where the walk ends.
        valid: seconds before a period that choose weights.
        train_from: where training begins, as the experiment has it.
        zone: of the log.
    """

    begins: list[int]
    valid: float
    train_from: datetime | None
    zone: ZoneInfo

    def __len__(self) -> int:
        return len(self.begins) - 1

    def rows(self, place: int, time: Integers) -> slice:
        """Those of ascending times that lie in a period."""
        low, high = np.searchsorted(time, self.begins[place : place + 2])
        return slice(int(low), int(high))

    def local(self, place: int) -> datetime:
        """When a period begins, in the log's own time."""
        return datetime.fromtimestamp(self.begins[place] // MICROSECONDS, UTC).astimezone(self.zone)

    def split(self, place: int) -> TimesSplit:
        """Training and validation before a period, which is the test."""
        begin, end = self.local(place), self.local(place + 1)
        valid = begin.replace(tzinfo=None) - timedelta(seconds=self.valid)
        start = self.train_from
        if start is not None and start.tzinfo is None:
            start = start.replace(tzinfo=self.zone)
        return TimesSplit(train_from=start, valid_from=valid.replace(tzinfo=self.zone), test_from=begin, test_until=end)


def first_experiment(experiment: Experiment) -> Experiment:
    """The experiment with all periods as its test split, its training being the first period's.

    Raises:
        ConfigError: if the log's lists would be drawn anew for each period.
    """
    if experiment.negatives != "none":
        raise ConfigError(
            "backtest: sampled negatives are drawn by what is popular before each period, so that policies would be "
            "measured on different lists: give a log with negatives of its own"
        )
    options, split = experiment.backtest, experiment.split
    if isinstance(split, TimesSplit):
        return experiment
    valid = split.valid if isinstance(split, DaysSplit) else options.period
    return experiment.model_copy(update={"split": DaysSplit(test=options.periods * options.period, valid=valid)})


def periods_of(experiment: Experiment, dataset: Dataset) -> Periods:
    """The periods of the dataset of `first_experiment`.

    Raises:
        DataError: if there are less than two.
    """
    options, split, test = experiment.backtest, experiment.split, dataset.manifest.splits["test"]
    zone = ZoneInfo(dataset.manifest.timezone)
    assert not isinstance(split, PartsSplit)
    last = test.last_time
    assert last is not None
    if isinstance(split, TimesSplit):
        begin = split.test_from if split.test_from.tzinfo else split.test_from.replace(tzinfo=zone)
        valid_from = split.valid_from if split.valid_from.tzinfo else split.valid_from.replace(tzinfo=zone)
        valid, train_from = (begin - valid_from).total_seconds(), split.train_from
    else:
        begin, valid, train_from = _midnight_after(last, zone), split.valid, None
        begin -= timedelta(seconds=split.test)
    begins = _begins(begin.astimezone(zone), options, last)
    if len(begins) < 3:
        raise DataError(f"backtest: the test split holds less than two periods of {options.period / 86_400:g} days")
    return Periods(begins, valid, train_from, zone)


def _midnight_after(last: int, zone: ZoneInfo) -> datetime:
    day = datetime.fromtimestamp(last // MICROSECONDS, zone)
    return day.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _begins(begin: datetime, options: BacktestOptions, last: int) -> list[int]:
    """On the wall clock: a day with a change to summer time is one day; the last period may be cut short by the log."""
    zone = begin.tzinfo
    assert isinstance(zone, ZoneInfo)
    clock, begins = begin.replace(tzinfo=None), list[int]()
    for place in range(options.periods + 1):
        begins.append(microseconds(clock + timedelta(seconds=place * options.period), zone))
        if begins[-1] > last:
            break
    return begins
