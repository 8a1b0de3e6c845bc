"""The device that stands in for a card: what it refuses, what it takes, and that it computes what the CPU computes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fake_cuda import CPU, CUDA, FakeStream, fake_cuda

Operation = Callable[[Tensor, Tensor], Any]
MATRIX, PLACES, ONE = [[1.0, 2.0], [3.0, 4.0]], [1, 0], 0.5
REFUSED: dict[str, tuple[Any, Operation]] = {
    "sum": (MATRIX, torch.add),
    "sum in place": (MATRIX, lambda a, b: a.add_(b)),
    "product of matrices": (MATRIX, torch.mm),
    "into another": (MATRIX, lambda a, b: torch.mul(a, 2, out=b)),
    "joined": (MATRIX, lambda a, b: torch.cat([a, b])),
    "chosen by a mask": (MATRIX, lambda a, b: torch.where(a > 0, a, b)),
    "layer": (MATRIX, F.linear),
    "loss": (MATRIX, F.binary_cross_entropy_with_logits),
    "step of Adam": (MATRIX, lambda a, b: a.addcdiv_(a, b)),
    "average": (MATRIX, lambda a, b: torch._foreach_lerp_([a], [b], 0.1)),
    "layer of one number": (ONE, lambda a, b: F.linear(a, a, b[None])),
    "rows": (PLACES, lambda a, at: a.index_select(0, at)),
    "rows written": (PLACES, lambda a, at: a.index_copy_(0, at, a + 1)),
    "rows added": (PLACES, lambda a, at: a.index_add_(0, at, a + 1)),
    "embedded": (PLACES, lambda a, at: F.embedding(at, a)),
}
TAKEN_BY_THE_DEVICE: dict[str, tuple[Any, Operation]] = {
    "a number": (ONE, torch.add),
    "a number in place of some": (ONE, lambda a, b: torch.where(a > 2, a, b)),
    "indexed": (PLACES, lambda a, at: a[at]),
    "indexed by a mask": ([True, False], lambda a, mask: a[mask]),
    "set by places": (PLACES, lambda a, at: a.index_put_((at,), a + 1)),
}


def both(first: torch.device, second: torch.device, content: Any) -> tuple[Tensor, Tensor]:
    return torch.tensor(MATRIX, device=first), torch.tensor(content, device=second)


@pytest.mark.parametrize("places", [(CUDA, CPU), (CPU, CUDA)], ids=["CPU-to-device", "device-to-CPU"])
@pytest.mark.parametrize("name", list(REFUSED))
def test_tensors_of_two_devices_do_not_meet(name: str, places: tuple[torch.device, torch.device]):
    content, operation = REFUSED[name]
    with fake_cuda():
        operation(*both(CUDA, CUDA, content))
        tensors = both(*places, content)
        with pytest.raises(RuntimeError, match="device"):
            operation(*tensors)


@pytest.mark.parametrize("name", list(TAKEN_BY_THE_DEVICE))
def test_numbers_and_places_of_the_cpu_are_taken(name: str):
    content, operation = TAKEN_BY_THE_DEVICE[name]
    expected = operation(*both(CPU, CPU, content))
    with fake_cuda():
        found = operation(*both(CUDA, CPU, content))
        assert found.device == CUDA
        torch.testing.assert_close(found.cpu(), expected)


@pytest.mark.parametrize("places", [PLACES, [True, False]], ids=["places", "mask"])
def test_the_cpu_is_not_indexed_by_what_lies_on_the_device(places: list[Any]):
    with fake_cuda():
        matrix, index = both(CPU, CUDA, places)
        with pytest.raises(RuntimeError, match="device"):
            matrix[index]


def test_copies_go_both_ways_and_numpy_needs_one():
    with fake_cuda():
        there, here = both(CUDA, CPU, MATRIX)
        there.mul_(2)
        assert here.copy_(there).tolist() == there.tolist() == [[2.0, 4.0], [6.0, 8.0]]
        with pytest.raises(TypeError, match=r"use Tensor\.cpu\(\)"):
            there.numpy()
        assert there.cpu().numpy().sum() == 20


def test_learns_what_the_cpu_learns():
    def learned(device: torch.device) -> list[Tensor]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.GRU(3, 4, batch_first=True)).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        x = torch.randn(5, 7, 3).to(device)
        for _ in range(3):
            optimizer.zero_grad()
            states, _ = network(x)
            chosen = states[:, [-1, 0]][x[:, :2, 0] > 0]  # as many rows as there happen to be
            (chosen.square().sum() * chosen.new_tensor(2.0)).backward()
            optimizer.step()
        return [parameter.detach().cpu() for parameter in network.parameters()]

    expected = learned(CPU)
    with fake_cuda():
        torch.testing.assert_close(learned(CUDA), expected)


def test_a_streams_tensors_are_used_by_others_once_it_was_waited_for():
    with fake_cuda():
        copying: Any = torch.cuda.Stream()
        assert isinstance(copying, FakeStream)
        with torch.cuda.stream(copying):  # type: ignore[arg-type]
            first = torch.ones(2, device=CUDA)
            is_there = copying.record_event()
            second = torch.ones(2, device=CUDA)
        with pytest.raises(RuntimeError, match="before that stream was waited for"):
            first + 1
        computing: Any = torch.cuda.current_stream()
        computing.wait_event(is_there)
        assert (first + 1).tolist() == [2.0, 2.0]
        with pytest.raises(RuntimeError, match="before that stream was waited for"):
            second + 1
