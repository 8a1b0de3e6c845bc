"""What walking forward found: how good each policy was in each period, and what it cost."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from musenet.config.backtest import Policy
from musenet.evaluation.intervals import Difference, Interval
from musenet.markdown import cell, markdown_table
from musenet.results import Number, Result, show

METRICS = ("auc", "gauc", "logloss", "calibration_ratio")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class WalkedPeriod(_Part):
    """One period."""

    begin: str
    """Local time, ISO 8601."""
    end: str
    impressions: int
    positives: int


class PeriodFigures(_Part):
    """One policy in one period."""

    auc: Interval
    gauc: Interval
    logloss: Interval
    calibration_ratio: Interval
    minutes: Number
    """Of training for it, by the clock; of a policy that follows the answers, of following them."""


class PolicyRow(_Part):
    """A model and what was done with it as time passed."""

    model: str
    policy: Policy
    periods: list[PeriodFigures]
    whole: PeriodFigures
    """Over all periods."""
    gained: dict[str, Difference]
    """AUC and logloss over all periods minus those of the same model left alone, paired over users."""

    @property
    def name(self) -> str:
        """Model and policy."""
        return f"{self.model}, {self.policy}"


class Backtest(Result):
    """Policies side by side over the periods of a log."""

    written_by: ClassVar[str] = "`musenet backtest`"

    data: str
    seed: int
    protocol: str
    periods: list[WalkedPeriod]
    models: list[PolicyRow]
    left_out: dict[str, str]
    """Policies that a model cannot take, and why."""

    def rows(self) -> list[dict[str, object]]:
        """A row per model, policy and period."""
        return [
            {
                "model": row.model,
                "policy": row.policy,
                "begin": period.begin,
                **{metric: getattr(found, metric).value for metric in METRICS},
                "minutes": found.minutes,
            }
            for row in self.models
            for period, found in zip(self.periods, row.periods, strict=True)
        ]

    def to_markdown(self) -> str:
        """The table over all periods, AUC by period, and what was left out."""
        head = ["model", "policy", "AUC", "against left alone", "GAUC", "logloss", "calibration", "minutes"]
        whole = [head, *([cell(text) for text in _cells(row)] for row in self.models)]
        lines = [["AUC from", *(period.begin[:10] for period in self.periods)]]
        lines += [[cell(row.name), *(f"{found.auc.value:.4f}" for found in row.periods)] for row in self.models]
        tables = [markdown_table(whole, [False, False, *[True] * (len(head) - 2)]), markdown_table(lines)]
        return "\n\n".join([*tables, "\n".join(self.sentences)]) + "\n"

    @property
    def sentences(self) -> list[str]:
        """What stands below the table."""
        told = [f"{name} is left out: {why}." for name, why in self.left_out.items()]
        return [*told, f"{self.data}, seed {self.seed}; 95 % intervals over users. {self.protocol}."]

    def show(self, console: Console) -> None:
        """Print both tables."""
        table = Table("policy", "AUC", "against left alone", "logloss", "minutes", title_justify="left")
        by_period = Table("AUC, period from", title_justify="left")
        for row in self.models:
            cells = _cells(row)
            table.add_row(row.name, cells[2], cells[3], cells[5], cells[7])
        for place in range(len(self.models)):
            by_period.add_column(str(place + 1), justify="right")
        for place, period in enumerate(self.periods):
            by_period.add_row(period.begin[:10], *(f"{row.periods[place].auc.value:.4f}" for row in self.models))
        console.print(table)
        console.print(by_period)
        for place, row in enumerate(self.models):
            console.print(f"{place + 1}: {row.name}", highlight=False)
        for sentence in self.sentences:
            console.print(sentence, highlight=False)


def _cells(row: PolicyRow) -> list[str]:
    whole, gained = row.whole, row.gained["auc"]
    against = f"{gained.value:+.4f} ({gained.low:+.4f} … {gained.high:+.4f})"
    return [
        row.model,
        row.policy,
        f"{whole.auc.value:.4f}",
        "–" if row.policy == "left alone" else against,
        f"{whole.gauc.value:.4f}",
        f"{whole.logloss.value:.4f}",
        f"{whole.calibration_ratio.value:.3f}",
        f"{whole.minutes:.1f}",
    ]


show.register(Backtest, Backtest.show)
