"""What a comparison says in the end: is its reference row ahead of the best baseline, and of the best control?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from musenet.evaluation.intervals import Difference, Interval, Resampled, difference, rela_impr_interval
from musenet.models.interface import Role


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


@dataclass(frozen=True)
class Verdict:
    """The reference against the best of each role; None where a comparison has no such row."""

    reference: str
    best_baseline: Rival | None
    best_control: Rival | None

    def sentence(self) -> str:
        """One sentence for people."""
        rivals = [("best baseline", self.best_baseline), ("best control", self.best_control)]
        parts = [
            f"{rival.outcome} the {what}, {rival.model} (RelaImpr {rival.rela_impr.value:+.1%}, "
            f"{rival.rela_impr.low:+.1%} … {rival.rela_impr.high:+.1%})"
            for what, rival in rivals
            if rival is not None
        ]
        return f"{self.reference} is {' and '.join(parts)}." if parts else ""

    def to_json(self) -> dict[str, Any]:
        """The verdict with its sentence."""
        return asdict(self) | {"sentence": self.sentence()}


def judge_reference(reference: str, models: Mapping[str, Resampled], roles: Mapping[str, Role]) -> Verdict:
    """The reference row against the rows of the highest test AUC among the baselines and among the controls.

    Args:
        reference: whose verdict it is.
        models: every row's metrics on shared draws.
        roles: what each row stands for.
    """

    def best(role: Role) -> Rival | None:
        rows = [row for row in models if roles[row] == role and row != reference]
        if not rows:
            return None
        row = max(rows, key=lambda name: models[name].value("auc"))
        pair = (models[reference], models[row])
        return Rival(row, difference(*pair), rela_impr_interval(*pair))

    return Verdict(reference, best("baseline"), best("control"))
