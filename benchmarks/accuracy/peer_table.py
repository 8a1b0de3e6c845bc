"""The table of our models beside their peers."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """One model's test AUC, seed by seed, beside a peer's."""

    model: str
    ours: list[float]
    peer: list[float]
    initial: str
    """The peer's initial weights that were better on validation."""

    @property
    def difference(self) -> float:
        """Ours less the peer's, of the means."""
        return float(np.mean(self.ours) - np.mean(self.peer))

    @property
    def spread(self) -> float:
        """The larger of both standard deviations over seeds."""
        return max(deviation(self.ours), deviation(self.peer))

    @property
    def reaches(self) -> bool:
        """Whether ours is no more than one standard deviation behind."""
        return self.difference >= -self.spread

    def to_json(self) -> dict[str, Any]:
        """What was measured and what follows from it."""
        return asdict(self) | {"difference": self.difference, "spread": self.spread, "reaches": self.reaches}


def deviation(values: list[float]) -> float:
    """Standard deviation over seeds, of a sample."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def to_markdown(rows: list[Comparison], peer: str) -> str:
    """A line per model; test AUC, mean ± standard deviation over seeds."""
    lines = [
        f"| model | ours | {peer} | its initial weights | difference | within one sd? |",
        "| --- | ---: | ---: | --- | ---: | --- |",
    ]
    for row in rows:
        verdict = "ahead" if row.difference >= 0 else "yes" if row.reaches else "no"
        cells = [row.model, _mean(row.ours), _mean(row.peer), row.initial, f"{row.difference:+.4f}", verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.4f} ± {deviation(values):.4f}"
