"""What trained models lose on another dataset: AUC on the test split of their own minus AUC on the other's.

The two splits have different rows, perhaps of the same people. So users are drawn from those of both splits together,
matched by the log's own ids: in each resample a user counts as often in one split as in the other, and one that only
one split knows counts in that alone. Seeds are paired as well: a run is the same on both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.compatibility import check_readable
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.dataset.roles import USER
from musenet.errors import DatasetError
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.intervals import (
    Resampled,
    percentile_interval,
    resample_model,
)
from musenet.evaluation.predictions import Predictions
from musenet.metrics import FloatArray
from musenet.runs.run import Run
from musenet.studies.comparison.results import Row, TransferLoss, WhereTrained, measured_of

METRIC = "auc"


class DrawsOfPart(UserDraws):
    """The resamples of other draws, for a sample that holds some of their users, under ids of its own.

    Args:
        whole: the draws of all users.
        ids: the part's users as its sample names them, ascending.
        place: of each among the ids of the whole.
    """

    def __init__(self, whole: UserDraws, ids: NDArray[Any], place: NDArray[np.int64]) -> None:
        super().__init__(ids, whole.resamples, whole.seed)
        self._whole, self._place = whole, place

    def blocks(self) -> Iterator[FloatArray]:
        """The whole's counts, of the part's users alone: (B × U) each. How many are drawn in all varies."""
        for counts in self._whole.blocks():
            yield np.take(counts, self._place, axis=1)


class OtherDataset:
    """A dataset that runs of another one are scored on; nothing is written.

    Args:
        own: the dataset that the runs were trained on.
        other: the one to score.
        split: of both.
        resamples: of users and seeds.
        say: told of every run that is scored.

    Raises:
        DatasetError: if models of the first cannot be asked about the second, or a split is empty.
    """

    def __init__(
        self,
        own: Dataset,
        other: Dataset,
        split: Split,
        resamples: int = RESAMPLES,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        check_readable(own, other)
        for dataset in (own, other):
            if dataset.manifest.splits[split].impressions == 0:
                raise DatasetError(f"the {split} split of {dataset.folder} is empty: there is nothing to compare on")
        self.own, self.other, self.split, self._say = own, other, split, say
        own_users, other_users = (_users(dataset, split) for dataset in (own, other))
        matched = _matched(own, other, other_users)
        whole = UserDraws(np.concatenate([own_users, matched]), resamples)
        self.own_draws = DrawsOfPart(whole, own_users, np.searchsorted(whole.ids, own_users))
        self.draws = DrawsOfPart(whole, other_users, np.searchsorted(whole.ids, matched))
        """Those of the other dataset."""
        self.users_of_both = len(own_users) + len(other_users) - whole.users

    def predictions(self, run: Run) -> Predictions:
        """The run's answers on the other dataset."""
        self._say(f"scoring {self.other.folder} by {run.path}")
        return run.predictions_on(self.other, self.split)

    def where_trained(self) -> WhereTrained:
        """What stands beside the table."""
        return WhereTrained(
            dataset=str(self.own.folder),
            scored=str(self.other.folder),
            impressions=self.own.manifest.splits[self.split].impressions,
            users=self.own_draws.users,
            users_of_both=self.users_of_both,
        )

    def with_losses(
        self,
        rows: Sequence[Row],
        groups: Mapping[str, Sequence[Run]],
        elsewhere: Mapping[str, Resampled],
        reference: str,
    ) -> list[Row]:
        """The rows with their AUC where they were trained, and what they lose.

        Args:
            rows: of the comparison on the other dataset.
            groups: the runs of each row, one per seed.
            elsewhere: each row's AUC on the other dataset, resampled on `draws`.
            reference: the row whose loss is set beside the others'.
        """
        at_home = {}
        for label, runs in groups.items():
            samples = [run.predictions(self.split, keep=False).sample() for run in runs]
            at_home[label] = resample_model(samples, self.own_draws, [METRIC])
            for run in runs:
                run.release()
        pairs = {label: (at_home[label], elsewhere[label]) for label in groups}
        return [row.model_copy(update=_lost_by(pairs[row.name], pairs[reference])) for row in rows]


def _lost_by(row: tuple[Resampled, Resampled], reference: tuple[Resampled, Resampled]) -> dict[str, Any]:
    """The two keys of a row: AUC where trained, and what is lost of it."""
    home, _ = row
    # As in a difference of two models: seed i beside seed i if both have equally many, else drawn apart.
    stream = 0 if home.seeds == reference[0].seeds else 1
    value, lost = _lost(row, 0)
    value_of_reference, lost_by_reference = _lost(reference, stream)
    loss = percentile_interval(value, lost, home.draws)
    over = percentile_interval(value - value_of_reference, lost - lost_by_reference, home.draws)
    return {
        "auc_where_trained": measured_of(home, METRIC),
        "loss": TransferLoss(loss.value, loss.low, loss.high, over),
    }


def _lost(row: tuple[Resampled, Resampled], stream: int) -> tuple[float, FloatArray]:
    """AUC at home minus AUC elsewhere: of the whole samples, and (resamples) in each resample, the same seeds drawn."""
    home, elsewhere = row
    lost = home.seed_means(METRIC, stream) - elsewhere.seed_means(METRIC, stream)
    return home.value(METRIC) - elsewhere.value(METRIC), lost


def _users(dataset: Dataset, split: Split) -> NDArray[np.int64]:
    """Rows of the users who were shown something in the split, ascending."""
    period = dataset.manifest.splits[split]
    shown = np.diff(dataset.requests.candidate_offset[period.begin : period.end + 1]) > 0
    return np.unique(dataset.requests.user[period.begin : period.end][shown]).astype(np.int64)


def _matched(own: Dataset, other: Dataset, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first dataset's rows of these users of the other one; strangers get rows that it does not have.

    Row 0, the unseen user of both, is one user, as in every interval over users.
    """
    known, asked = (_user_ids(dataset) for dataset in (own, other))
    row_of = {user: row for row, user in enumerate(known) if row > 0}
    return np.array([0 if row == 0 else row_of.get(asked[row], len(known) + row) for row in users], dtype=np.int64)


def _user_ids(dataset: Dataset) -> list[str | None]:
    """The log's own id of each row of users, as text."""
    return [None if user is None else str(user) for user in dataset.keys("users", [USER])[USER].to_pylist()]
