"""A CUDA device for machines without one: its tensors are computed by the CPU, and refuse what a card would refuse.

Torch's own fake tensors hold no values, so that nothing gets past a step that looks at one (`item`, `nonzero`), and
their backward pass ends the process where torch is built without CUDA. Here a tensor of the device wraps one of the
CPU and says `cuda:0`, while torch takes it for one of its `meta` device. Where both devices meet, torch's fake tensors
are asked: they know what a card would take. Streams compute nothing beside one another either, but a tensor of one that
another uses without having waited for it is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, CPU, META = torch.device("cuda", 0), torch.device("cpu"), torch.device("meta")
ATEN = torch.ops.aten
COPIES = {ATEN._to_copy.default, ATEN.copy_.default}
"""The ways from one device to the other."""
BY_INDICES = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default}
"""What lies on the device may be indexed by what lies on the CPU."""


class CudaTensor(Tensor):
    """A tensor on the device: what the CPU has `held` for it, which nobody else may read."""

    held: Tensor
    made: "tuple[FakeStream, int]"

    @staticmethod
    def __new__(cls, held: Tensor) -> "CudaTensor":
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):  # the wrappers of weights' views are no inference tensors
                return cls(held)
        made: CudaTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=META
        )
        made.held, made.made = held, _streams[-1].next()
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> NoReturn:  # type: ignore[override]
        raise RuntimeError(f"{func} on a tensor of the device outside of fake_cuda(), or in another thread")

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_on_device(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_on_device(index), value)

    def new_tensor(self, data: Any, *args: Any, **options: Any) -> Tensor:
        usual: dict[str, Any] = {"dtype": self.dtype, "device": CUDA}
        return torch.tensor(data, *args, **usual | options)

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **_: Any) -> NoReturn:
        raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu() first")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{self.held!r} on {CUDA}"


def _on_device(index: Any) -> Any:
    """Lists of places as tensors: for its meta device torch does not look into them."""
    if isinstance(index, tuple):
        return tuple(_on_device(one) for one in index)
    return torch.tensor(index, dtype=torch.long, device=CUDA) if isinstance(index, list) else index


class FakeStream:
    """What stands for `torch.cuda.Stream`: how much was asked of it, and how much of others it has waited for."""

    def __init__(self, _: Any = None) -> None:
        self.asked = 0
        self.awaited: dict[FakeStream, int] = {}

    def __deepcopy__(self, _: Any) -> "FakeStream":
        return self  # of tensors that are copied

    def next(self) -> "tuple[FakeStream, int]":
        self.asked += 1
        return self, self.asked

    def record_event(self) -> "dict[FakeStream, int]":
        return self.awaited | {self: self.asked}

    def wait_event(self, event: "dict[FakeStream, int]") -> None:
        self.awaited |= {one: max(asked, self.awaited.get(one, 0)) for one, asked in event.items()}

    def wait_stream(self, other: "FakeStream") -> None:
        self.wait_event(other.record_event())

    def check(self, tensor: CudaTensor) -> None:
        maker, asked = tensor.made
        if maker is not self and asked > self.awaited.get(maker, 0):
            raise RuntimeError("a tensor of another stream is used before that stream was waited for")


_streams = [FakeStream()]
"""Those of the blocks that are entered; the last is the current one."""


@contextmanager
def _in_stream(stream: FakeStream) -> Iterator[None]:
    _streams.append(stream)
    try:
        yield
    finally:
        _streams.pop()


@contextmanager
def fake_cuda() -> Iterator[torch.device]:
    """Within, and in this thread, tensors can be moved to `cuda:0`, made and used there."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # data become a tensor on the CPU, and are moved then
    stand_ins: dict[str, Any] = {
        "Stream": FakeStream,
        "stream": _in_stream,
        "current_stream": lambda _=None: _streams[-1],
    }
    no_cudnn = patch.object(torch.backends.cudnn, "is_acceptable", lambda _: False)
    pinning = patch.object(Tensor, "pin_memory", Tensor.clone)
    try:
        with patch.multiple(torch.cuda, **stand_ins), no_cudnn, pinning, _Computed():
            yield CUDA
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


class _Computed(TorchDispatchMode):
    """Does with what they wrap all that is done with tensors of the device."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # else torch looks for a card once it hears of one

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # there some come that are made of others
            with self:
                if (out := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return out
        tensors = [one for value in (*args, *kwargs.values()) for one in _tensors_in(value)]
        of_device = {id(one.held): one for one in tensors if isinstance(one, CudaTensor)}
        asked = kwargs.get("device")
        here = bool(of_device) if asked is None else asked.type in ("cuda", "meta")
        if not (of_device or here):
            return func(*args, **kwargs)
        for one in of_device.values():
            _streams[-1].check(one)
        if len(of_device) < len(tensors) and func not in COPIES:
            self.check(func, args, kwargs, tensors)
        if asked is not None:
            kwargs = kwargs | {"device": CPU}
        out = func(*_each(args, _held), **{name: _each(value, _held) for name, value in kwargs.items()})
        if torch.Tag.inplace_view in func.tags:  # the wrapper takes another shape as well
            with no_dispatch():
                func(*args, **kwargs)
        return _each(out, lambda one: of_device[id(one)] if id(one) in of_device else CudaTensor(one)) if here else out

    def check(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], tensors: Sequence[Tensor]) -> None:
        """Raise what a card would if tensors of both devices come, and it does not take them."""
        devices = [one.device.type for one in tensors]
        case = (func, *devices, *(one.dim() > 0 for one in tensors))
        if len(set(devices)) <= 1 or case in self.taken:
            return
        indexed = func in BY_INDICES and devices[0] == "cuda"
        if not indexed and any(one.dim() and one.device == CPU for one in tensors):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found cuda:0 and cpu")
        # How much comes out, which fake tensors cannot tell, is no matter of devices.
        with torch._C.DisableTorchFunction(), FakeTensorMode(), suppress(DynamicOutputShapeException):
            func(*_each(args, _fake), **{name: _each(value, _fake) for name, value in kwargs.items()})
        self.taken.add(case)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors_in(one)


def _each(value: Any, of: Callable[[Any], Any]) -> Any:
    """The same with what `of` makes of each tensor in it."""
    if isinstance(value, Tensor):
        return of(value)
    return type(value)(_each(one, of) for one in value) if type(value) in (list, tuple) else value


def _held(value: Tensor) -> Tensor:
    if value.device == META:
        raise RuntimeError("a tensor was made without its values: fake_cuda must learn of this way to make one")
    return value.held if isinstance(value, CudaTensor) else value


def _fake(value: Tensor) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
