"""An embedding table cut up by rows over the workers: who holds which, and how rows and gradients travel.

TorchRec's row-wise sharding carries them: each worker sends the rows that it needs to those who hold them, gets their
embeddings, and sends the gradients back the same way. It is imported where it is needed: one process does without.

Shapes: U distinct rows of this worker's batch, V rows that all workers want of this one, D.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from musenet.distributed import workers
from musenet.distributed.pieces import InPieces
from musenet.errors import RunError

PIECE = 1 << 16
"""Rows of a table that are drawn, sent or written at a time; of a multiple of 16 torch draws the same in one go."""

NEEDED = ("torchrec", "fbgemm_gpu")

_sharded: ContextVar[bool] = ContextVar("sharded", default=False)


@contextmanager
def sharded_tables(wanted: bool) -> Iterator[None]:
    """Embedding tables built inside the block are shared out over the workers, if wanted and if there are several.

    Raises:
        RunError: if TorchRec, which this takes, is not installed.
    """
    several = wanted and not workers.alone()
    if several and any(find_spec(package) is None for package in NEEDED):
        raise RunError(
            "training.embeddings is sharded, and TorchRec is not installed: pip install 'musenet[cluster]', "
            "then pip install --no-deps torchrec==1.8.0, or set it to replicated"
        )
    before = _sharded.set(several)
    try:
        yield
    finally:
        _sharded.reset(before)


class RowShards:
    """Consecutive rows of a table for each worker, as many for each; the last may have fewer.

    Args:
        rows: of the whole table.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.block = -(-rows // workers.count())
        self.own = self.of(workers.rank())
        self._exchange: tuple[Any, Any] | None = None
        self._asked: tuple[Tensor, list[int], Tensor, Tensor] | None = None

    def of(self, worker: int) -> range:
        """The rows that a worker holds."""
        return range(min(worker * self.block, self.rows), min((worker + 1) * self.block, self.rows))

    def look_up(self, weight: Tensor, rows: Tensor) -> Tensor:
        """(U, D) the embeddings of `rows` (U,), whoever holds them; all workers must come to this call.

        Args:
            weight: (own rows, D).
            rows: of the whole table, at least one.
        """
        from torchrec.distributed.sharding.sequence_sharding import SequenceShardingContext
        from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

        to_owners, to_askers = self._ways(weight.device)
        asked = KeyedJaggedTensor(["row"], rows, lengths=torch.tensor([len(rows)], device=rows.device))
        received = to_owners(asked).wait().wait()
        places, counts = received.values(), received.lengths().tolist()
        found = weight.index_select(0, places).requires_grad_(torch.is_grad_enabled())
        size = weight.shape[1]
        wanted = torch.bincount(rows // self.block, minlength=workers.count()).tolist()
        # Sent as one column: what TorchRec does to bring several tables' rows into order knows no float64.
        context = SequenceShardingContext(
            input_splits=[size * count for count in wanted],
            output_splits=[size * count for count in counts],
            lengths_after_input_dist=received.lengths()[:0],
        )
        by_owner: Tensor = to_askers(found.view(-1, 1), context).wait().view(-1, size)
        values = by_owner.index_select(0, to_owners.unbucketize_permute_tensor)
        if torch.is_grad_enabled():
            self._asked = places, counts, found, values
        return values.detach()

    def summed_gradient(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the own weight that any worker looked up last, and the sums of the workers' gradients by row.

        Args:
            gradient: (U, D) of what `look_up` gave to this worker; all workers must come to this call.
        """
        if self._asked is None:
            raise RuntimeError("no look-up to go back from")
        places, counts, found, values = self._asked
        self._asked = None
        values.backward(gradient)  # type: ignore[no-untyped-call]
        if found.grad is None:
            raise RuntimeError("the exchange lost the gradient")
        return workers.added_by_row(torch.split(places, counts), torch.split(found.grad, counts))

    def whole(self, values: Tensor) -> InPieces:
        """(rows, D) of everybody's `values` (own rows, D), for the first worker; all must go through its pieces."""

        def pieces() -> Iterator[Tensor]:
            for owner in range(workers.count()):
                for begin in range(0, len(self.of(owner)), PIECE):
                    length = min(PIECE, len(self.of(owner)) - begin)
                    mine = owner == workers.rank()
                    piece = values[begin : begin + length] if mine else values.new_empty(length, values.shape[1])
                    yield workers.handed_to_first(piece, owner)

        return InPieces((self.rows, values.shape[1]), values.dtype, pieces)

    def _ways(self, device: torch.device) -> tuple[Any, Any]:
        """TorchRec's ways of row numbers to those who hold them, and of embeddings back."""
        if self._exchange is None:
            import torch.distributed as dist
            from torchrec.distributed.comm_ops import set_gradient_division
            from torchrec.distributed.sharding.rw_sequence_sharding import RwSequenceEmbeddingDist
            from torchrec.distributed.sharding.rw_sharding import RwSparseFeaturesDist

            # TorchRec asks torch in a way that torch warns of, at every start of every worker.
            logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
            set_gradient_division(False)  # losses are divided by the number of workers already
            group = dist.distributed_c10d._get_default_group()
            self._exchange = (
                RwSparseFeaturesDist(group, 1, [self.rows], device=device, is_sequence=True),
                RwSequenceEmbeddingDist(group, 1, device),
            )
        return self._exchange


def shards_of(rows: int) -> RowShards | None:
    """How a table of so many rows is shared out; None if every worker has it whole."""
    return RowShards(rows) if _sharded.get() else None


def normal_rows(rows: int, size: int, own: range) -> Tensor:
    """(own, D) standard normal numbers, the own rows of `torch.randn(rows, size)`, which is never whole in memory."""
    drawn = torch.empty(len(own), size)
    last = max(rows // PIECE - 1, 0) * PIECE  # the last piece is never short: torch draws few numbers in another way
    for begin in range(0, last + 1, PIECE):
        end = rows if begin == last else begin + PIECE
        piece = torch.randn(end - begin, size)
        first, after = max(begin, own.start), min(end, own.stop)
        if first < after:
            drawn[first - own.start : after - own.start] = piece[first - begin : after - begin]
    return drawn
