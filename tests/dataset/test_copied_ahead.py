"""Batches on a CUDA card: the next one is copied while one is in use; what is not ready is not read or overwritten."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fake_cuda import CPU, CUDA, CudaTensor, FakeStream, fake_cuda
from musenet.dataset.batch import Batch
from musenet.dataset.batches import Batches, on_device
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}


def current_stream() -> FakeStream:
    stream: Any = torch.cuda.current_stream()
    assert isinstance(stream, FakeStream)
    return stream


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_device_holds_the_same_batches(dtype: torch.dtype, planted_dataset: Dataset):
    batches = Batches(planted_dataset, "train", 32, shuffle_seed=5)
    expected = list(on_device(batches.epoch(), CPU, dtype))
    with fake_cuda():
        found = list(on_device(batches.epoch(), CUDA, dtype))
    assert len(found) == len(expected) == len(batches)
    for one, other in zip(found, expected, strict=True):
        assert all(isinstance(value, CudaTensor) for value in tensors_of(one).values())
        for name, value in tensors_of(other).items():
            assert torch.equal(getattr(one, name).held.nan_to_num(), value.nan_to_num())
            assert value.dtype == (dtype if value.is_floating_point() else value.dtype)


def test_the_next_batch_is_copied_while_one_is_in_use(planted_dataset: Dataset):
    builder, seen = BatchBuilder(planted_dataset), []

    def built() -> Iterator[Batch]:
        for place in range(3):
            seen.append(f"built {place}")
            yield builder.build(np.array([place]))

    with fake_cuda():
        for place, batch in enumerate(on_device(built(), CUDA, torch.float32)):
            seen.append(f"used {place}")
            assert (batch.request_index + 0).tolist() == [place]
    assert seen == ["built 0", "built 1", "used 0", "built 2", "used 1", "used 2"]


def test_a_copy_waits_for_all_that_was_asked_before(planted_dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    """It may be written where a batch lay that what was asked still reads."""
    copy = Batch.to
    waited: list[bool] = []
    with fake_cuda():
        computing = current_stream()

        def copied(batch: Batch, *to: Any) -> Batch:
            copying = current_stream()
            waited.append(copying is not computing and copying.awaited[computing] == computing.asked)
            return copy(batch, *to)

        monkeypatch.setattr(Batch, "to", copied)
        for batch in on_device(Batches(planted_dataset, "train", 32).epoch(), CUDA, torch.float32):
            batch.label.sum()
    assert len(waited) > 3
    assert all(waited)


def test_pinned_batches_are_pinned_whole(planted_dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    batches = Batches(planted_dataset, "train", 10_000, pinned=True)
    (batch,) = batches.epoch()
    assert {id(value) for value in tensors_of(batch).values()} == {id(value) for value in pinned}
    pinned.clear()
    list(Batches(planted_dataset, "train", 10_000).epoch())
    assert not pinned
