"""Several processes with one model: what they sum, gather and agree on. Alone, all of it is the identity.

Every worker computes on its own requests of the same batch. What concerns the whole batch is summed over the workers;
the sums are differentiable, so that a loss made of them has, added up over the workers, the gradients of one process.
All workers must come to each of these calls, in the same order.
"""

import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count as counting
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from musenet.errors import OtherWorkerFailedError, WorkerLostError

T = TypeVar("T")

PATIENCE = datetime.timedelta(days=7)
"""How long they wait for one another, for instance while the first prepares a dataset; a dead one is seen at once."""

_meetings = counting()


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the workers that torchrun, or whoever set its environment variables, has started; alone without them.

    An error in one of them ends all, and is raised in that one alone.

    Raises:
        OtherWorkerFailedError: in the others.
        WorkerLostError: if another worker was killed, in one of those that are left.
    """
    if count() > 1 or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    place, own, number = _meeting_place()
    # Each time under other names, or they would look for each other where they were the last time.
    store = dist.distributed_c10d.PrefixStore(f"meeting {next(_meetings)}", place)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=own, world_size=number, timeout=PATIENCE)
    try:
        yield
    except OtherWorkerFailedError:
        raise
    except BaseException as error:
        if not _fails_first(store):
            raise OtherWorkerFailedError("another worker stopped: see its error") from error
        if isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise WorkerLostError(
                "another worker was killed, and so all end: run the same command again (`train` with --resume)"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


@cache
def _meeting_place() -> "tuple[dist.distributed_c10d.Store, int, int]":
    """Where workers find each other, which of them this one is, and how many there are; until the process ends."""
    from torch.distributed.rendezvous import rendezvous

    store, own, number = next(rendezvous("env://", timeout=PATIENCE))
    store.set_timeout(PATIENCE)
    return store, own, number


def _fails_first(store: "dist.distributed_c10d.Store") -> bool:
    """Whether no other worker has failed; asked once by each that does, before others notice by its absence."""
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:  # whoever kept the count has ended
        return True


def count() -> int:
    """How many workers there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0 on."""
    return dist.get_rank() if count() > 1 else 0


def alone() -> bool:
    """Whether this is the only one."""
    return count() == 1


def is_first() -> bool:
    """Whether this is the one that writes files and speaks to people."""
    return rank() == 0


class _Sum(torch.autograd.Function):
    """Every worker's loss may depend on the sum, so the gradient of a summand is the sum of the workers' gradients."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return global_sum(gradient)


def global_sum(values: Tensor) -> Tensor:
    """Element by element the sum over all workers."""
    return values if alone() else _Sum.apply(values)  # type: ignore[no-untyped-call]


def global_quotient(total: Tensor, counted: Tensor | int) -> Tensor:
    """The sum of all workers' totals over the sum of what they counted, which is taken for 1 if it is 0.

    Args:
        total: of any shape.
        counted: how many this total is made of.
    """
    if alone():
        return total / (max(counted, 1) if isinstance(counted, int) else counted.clamp_min(1))
    parts = global_sum(torch.cat([total.reshape(-1), torch.as_tensor(counted).to(total).reshape(1)]))
    return (parts[:-1] / parts[-1].clamp_min(1)).view_as(total)


def global_sum_and_count(total: Tensor, counted: int) -> tuple[Tensor, int]:
    """The sum of all workers' totals, and of what they counted, in one message."""
    if alone():
        return total, counted
    parts = global_sum(torch.cat([total, total.new_tensor([counted])]))
    return parts[:-1], int(parts[-1])


def global_mean(values: Tensor) -> Tensor:
    """Mean over the rows of all workers, (…) of (rows, …)."""
    return global_quotient(values.sum(0), len(values))


def global_counts(*numbers: int) -> tuple[int, ...]:
    """The sums of all workers' numbers, each for itself."""
    return numbers if alone() else tuple(global_sum(torch.tensor(numbers)).tolist())


def gathered(items: list[T]) -> list[T]:
    """The items of all workers, in the workers' order."""
    if alone():
        return items
    of_all: list[list[T]] = [[] for _ in range(count())]
    dist.all_gather_object(of_all, items)
    return [item for of_one in of_all for item in of_one]


def all_rows(rows: Tensor) -> list[Tensor]:
    """Every worker's rows, (rows of that worker, …) each; without gradients.

    Args:
        rows: (rows, …), as many as this worker has.
    """
    return [rows] if alone() else _gather(rows, _counts(len(rows), rows.device))


def own_rows(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """This worker's rows of what is drawn for the rows of all: the same for a row, however many workers there are.

    Args:
        draw: so many rows, from a generator that stands alike in all workers.
        rows: of this worker.
    """
    if alone():
        return draw(rows)
    counts = _counts(rows, torch.device("cpu"))
    return draw(sum(counts)).narrow(0, sum(counts[: rank()]), rows)


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Add up the workers' gradients of these parameters, in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if alone() or not gradients:
        return
    together = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(together)
    for gradient, part in zip(gradients, torch.split(together, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def sum_by_row(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """(U,) the rows that any worker has, ascending, and (U, D) the sums of the workers' values by row; alone, as given.

    Args:
        rows: (rows,) distinct.
        values: (rows, D).
    """
    if alone():
        return rows, values
    counts = _counts(len(rows), rows.device)
    return added_by_row(_gather(rows, counts), _gather(values, counts))


def added_by_row(rows: Sequence[Tensor], values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(U,) the rows that any worker has, ascending, and (U, D) the sums of the workers' values by row.

    Args:
        rows: of each worker (rows,), distinct.
        values: of each worker (rows, D).
    """
    union, places = torch.unique(torch.cat(list(rows)), return_inverse=True)
    total = values[0].new_zeros(len(union), values[0].shape[1])
    # One worker after the other: within one no row comes twice, so the order of addition is the same everywhere.
    for place, part in zip(torch.split(places, [len(one) for one in rows]), values, strict=True):
        total.index_add_(0, place, part)
    return union, total


def handed_to_first(piece: Tensor, owner: int) -> Tensor:
    """The owner's piece, in the first worker; what the others get back means nothing.

    Args:
        piece: of the same shape and type in the owner and in the first worker, which writes into its own.
        owner: rank of the worker that has it.
    """
    if owner > 0 and rank() == owner:
        dist.send(piece.contiguous(), 0)
    elif owner > 0 and is_first():
        dist.recv(piece, owner)
    return piece


def first_does(work: Callable[[], T]) -> T:
    """Have the first worker do it alone while the others wait; all get what it returned.

    Raises:
        OtherWorkerFailedError: in the others, if the first one could not; what it says it has said itself.
    """
    if alone():
        return work()
    outcome: list[Any] = [None, False]
    failure: BaseException | None = None
    if is_first():
        try:
            outcome = [work(), True]
        except BaseException as error:
            failure = error
    dist.broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    if not outcome[1]:
        raise OtherWorkerFailedError("the first worker stopped: see its error")
    answer: T = outcome[0]
    return answer


def other_machines_do(work: Callable[[], object]) -> None:
    """Have one worker of each machine but the first worker's do it, while all others wait."""
    if not is_first() and os.environ.get("LOCAL_RANK") == "0":
        work()
    gathered([None])


def _gather(rows: Tensor, counts: list[int]) -> list[Tensor]:
    """Every worker's rows, as many as it counted."""
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    of_all = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(of_all, padded)
    return [of_one[:length] for of_one, length in zip(of_all, counts, strict=True)]


def _counts(rows: int, device: torch.device) -> list[int]:
    """How many rows each worker has."""
    mine = torch.tensor([rows], device=device)
    of_all = [torch.empty_like(mine) for _ in range(count())]
    dist.all_gather(of_all, mine)
    return [int(one) for one in of_all]
