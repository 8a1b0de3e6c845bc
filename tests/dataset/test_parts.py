"""Of a dataset's columns a worker reads what its part of a batch needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from musenet.dataset.builder import BatchBuilder, part_of
from planted import write_planted


class Watched(np.ndarray):
    """A column that notes which rows are taken from it."""

    seen: set[int]

    @classmethod
    def of(cls, column: NDArray[Any], seen: set[int]) -> "Watched":
        watched = np.asarray(column).view(cls)
        watched.seen = seen
        return watched

    def __getitem__(self, rows: Any) -> Any:
        self.seen |= set(np.arange(len(self))[rows].ravel().tolist())
        return np.asarray(self)[rows]


@pytest.mark.parametrize("part", [(0, 2), (1, 2), (2, 3)])
def test_a_part_reads_the_rows_of_its_own_requests_alone(part: tuple[int, int], tmp_path: Path):
    dataset, requests = write_planted(tmp_path / "dataset", weighted=True), np.arange(10, 30)
    own = requests[part_of(dataset.sizes_of(requests), part)]
    candidates, _ = dataset.candidates_of(own)
    events, _ = dataset.history_of(own)
    BatchBuilder(dataset).build(requests, np.random.default_rng(0), part=part)  # opens every column that it reads
    read: dict[str, set[int]] = {}
    for (relation, name), column in dataset._columns.items():
        if name not in ("candidate_offset", "offset"):  # which tell the sizes of all
            dataset._columns[relation, name] = Watched.of(column, read.setdefault(relation, set()))
    BatchBuilder(dataset).build(requests, np.random.default_rng(0), part=part)
    rows = {"requests": own, "candidates": candidates, "events": events, "users": dataset.requests.user[own]}
    rows["items"] = np.concatenate([dataset.candidates.item[candidates]])
    assert {name: sorted(found) for name, found in read.items()} == {
        name: sorted(set(expected.tolist())) for name, expected in rows.items()
    }
