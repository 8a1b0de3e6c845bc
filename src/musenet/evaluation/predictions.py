"""What a model says of every impression of a split, in memory and as Parquet.

Shapes: N candidates, R requests, K scenarios.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from musenet.errors import RunError, one_line
from musenet.evaluation.draws import Sample
from musenet.files import replacing

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's answers: a row per candidate in order of its request, and a row per request."""

    request: Integers
    """(N) row of the dataset's requests, ascending."""
    user: Integers
    """(N) row of the dataset's users."""
    item: Integers
    """(N) row of the dataset's items."""
    time: Integers
    """(N) of the request, in the dataset's unit."""
    label: NDArray[np.int8]
    """(N) 0 or 1."""
    logit: Floats
    """(N) of a click."""
    weight: Floats | None
    """(N) importance, where the log has weights."""
    repeat_indicator: NDArray[np.bool_]
    """(N) whether the candidate repeats an earlier event."""
    requests: Integers
    """(R) rows of the dataset's requests, ascending."""
    assignment: Floats | None
    """(R, K) probability of each scenario; None for models without scenarios."""
    repeat_probability: Floats | None
    """(R, K) p_r of each scenario."""
    true_scenario: Integers | None
    """(R) the generator's scenario, -1 unknown; None for a log that does not tell."""
    scenario_logit: Floats | None = None
    """(N, K) each scenario's logit, where that was asked for; not written to files."""
    uncalibrated: Floats | None = None
    """(N) the model's own logit, where `logit` is a recalibrated one."""

    @property
    def place(self) -> Integers:
        """(N) the candidate's request as a row of the (R, …) arrays."""
        return np.searchsorted(self.requests, self.request)

    def sample(self) -> Sample:
        """The rows as metrics and intervals take them."""
        return Sample(self.label.astype(np.float64), self.logit, self.user, self.request, self.weight)

    def to_parquet(self, candidates: Path, requests: Path, model: str = "") -> None:
        """Write one file of candidates and one of requests, replaced whole; `model` says whose answers they are."""
        columns = {name: getattr(self, name) for name in _CANDIDATE_COLUMNS}
        _write(candidates, {name: column for name, column in columns.items() if column is not None}, model)
        of_request: dict[str, Any] = {"request": self.requests}
        for name, values in (("probability", self.assignment), ("repeat_probability", self.repeat_probability)):
            if values is not None:
                of_request |= {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}
        if self.true_scenario is not None:
            of_request["true_scenario"] = self.true_scenario
        _write(requests, of_request, model)

    @classmethod
    def from_parquet(cls, candidates: Path, requests: Path) -> "Predictions":
        """Read what `to_parquet` wrote; raises `RunError` if a file is missing or damaged."""
        rows, of_request = _read(candidates), _read(requests)
        missing = [name for name in _CANDIDATE_COLUMNS if name not in rows and name not in _OPTIONAL]
        if missing or "request" not in of_request:
            raise RunError(f"{candidates} lacks the columns {', '.join(missing) or 'request'}: evaluate the run again")
        return cls(
            **{name: rows.get(name) for name in _CANDIDATE_COLUMNS},  # type: ignore[arg-type]
            requests=of_request["request"],
            assignment=_matrix(of_request, "probability"),
            repeat_probability=_matrix(of_request, "repeat_probability"),
            true_scenario=of_request.get("true_scenario"),
        )


_CANDIDATE_COLUMNS = ("request", "user", "item", "time", "label", "logit", "weight", "repeat_indicator", "uncalibrated")
_OPTIONAL = ("weight", "uncalibrated")


def _write(path: Path, columns: dict[str, Any], model: str) -> None:
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"model": model}), temporary)


def model_of(path: Path) -> str | None:
    """Whose answers a file holds; None if it is missing or damaged."""
    try:
        metadata: dict[bytes, bytes] = pq.read_schema(path).metadata or {}
        return metadata.get(b"model", b"").decode()
    except (OSError, pa.ArrowException):
        return None


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise RunError(f"{path} is missing: run `musenet evaluate` on the run first")
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} is damaged ({one_line(error)}): evaluate the run again") from error
    return {name: table[name].to_numpy() for name in table.column_names}


def _matrix(columns: dict[str, NDArray[Any]], name: str) -> Floats | None:
    count = sum(column.removeprefix(f"{name}_").isdigit() for column in columns if column.startswith(f"{name}_"))
    return np.stack([columns[f"{name}_{k}"] for k in range(count)], axis=1) if count else None
