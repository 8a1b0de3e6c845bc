"""What a comparison says in the end: did scenarios pay? One judge for the terminal, the files and the report."""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import computed_field
from pydantic.dataclasses import dataclass

from musenet.evaluation.intervals import Difference, Interval, Resampled, difference, rela_impr_interval
from musenet.models.options import Role
from musenet.results import Result

Outcome = Literal["gain", "no gain", "loss", "unknown"]

TITLES: dict[Outcome, str] = {
    "gain": "Scenarios paid",
    "no gain": "No gain from scenarios",
    "loss": "Scenarios lost",
    "unknown": "Whether scenarios paid is not known",
}


@dataclass(frozen=True)
class Rival:
    """The best row of a role, and how far the reference is ahead of it."""

    model: str
    difference: Difference
    """AUC of the reference minus the rival's."""
    rela_impr: Interval
    """Of the reference over the rival."""

    @property
    def outcome(self) -> str:
        """In words, by the whole interval."""
        if self.difference.low > 0:
            return "ahead of"
        return "behind" if self.difference.high < 0 else "level with"


class Verdict(Result):
    """The reference against the best of each role; None where a comparison has no such row."""

    reference: str
    best_baseline: Rival | None
    best_control: Rival | None
    outcome: Outcome
    """A gain only if the whole interval lies above zero against every row that learns no scenarios."""
    not_beaten: list[str]
    """Such rows against which it does not."""

    @property
    def rival(self) -> Rival | None:
        """The stronger of the best baseline and the best control."""
        rivals = [rival for rival in (self.best_baseline, self.best_control) if rival is not None]
        return min(rivals, key=lambda rival: rival.difference.value, default=None)

    @property
    def caution(self) -> str | None:
        """What a gain over baselines alone does not show."""
        if self.outcome != "gain" or self.best_control is not None:
            return None
        return (
            "The table holds no control (one scenario of the same size, uniform or permuted assignment): the gain may "
            "come from size or form rather than from scenarios."
        )

    @property
    def title(self) -> str:
        """The verdict in a few words."""
        return TITLES["unknown" if self.caution else self.outcome]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sentence(self) -> str:
        """The verdict for people, in one sentence that claims no more than the intervals do."""
        rivals = [("best baseline", self.best_baseline), ("best control", self.best_control)]
        parts = [
            f"{rival.outcome} the {what}, {rival.model} ({_told(rival.rela_impr)})"
            for what, rival in rivals
            if rival is not None
        ]
        if not parts:
            return ""
        named = [rival.model for _, rival in rivals if rival is not None]
        but = ""
        if self.not_beaten and not set(named) & set(self.not_beaten):
            but = f", but not surely ahead of {', '.join(self.not_beaten)}"
        return f"{self.reference} is {' and '.join(parts)}{but}."

    @property
    def headline(self) -> str:
        """The sentence behind its title, where there is something to be titled; empty without rivals."""
        if self.outcome == "unknown":
            return self.sentence
        return f"{self.title}: {self.sentence}{f' {self.caution}' if self.caution else ''}"


def _told(gain: Interval) -> str:
    """A base that is no better than chance in some resample leaves no bounds, one that is not at all no gain."""
    if math.isnan(gain.value):
        return "RelaImpr not defined"
    bounds = "no bounds" if math.isnan(gain.low) else f"{gain.low:+.1%} … {gain.high:+.1%}"
    return f"RelaImpr {gain.value:+.1%}, {bounds}"


def judge(reference: str, models: Mapping[str, Resampled], roles: Mapping[str, Role]) -> Verdict:
    """The reference row against the rows that learn no scenarios, diagnostics left out.

    Args:
        reference: whose verdict it is; scenarios can have paid only if it learns some.
        models: every row's metrics on shared draws.
        roles: what each row stands for.
    """
    rivals = [row for row in models if row != reference and roles[row] in ("baseline", "control", "as published")]
    ahead = {row: difference(models[reference], models[row]) for row in rivals}

    def best(role: Role) -> Rival | None:
        rows = [row for row in rivals if roles[row] == role]
        if not rows:
            return None
        row = max(rows, key=lambda name: models[name].value("auc"))
        return Rival(row, ahead[row], rela_impr_interval(models[reference], models[row]))

    return Verdict(
        reference=reference,
        best_baseline=best("baseline"),
        best_control=best("control"),
        outcome=outcome_of(ahead) if roles[reference] == "musenet" else "unknown",
        not_beaten=[row for row, found in ahead.items() if not found.low > 0],
    )


def outcome_of(ahead: Mapping[str, Difference]) -> Outcome:
    """By how far the reference is ahead of each rival."""
    if not ahead or any(found.low != found.low for found in ahead.values()):
        return "unknown"
    if all(found.low > 0 for found in ahead.values()):
        return "gain"
    return "loss" if min(ahead.values(), key=lambda found: found.value).high < 0 else "no gain"
