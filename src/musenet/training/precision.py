"""The precision of a training step's matrix products, and whether a device is made for it."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from musenet.config.training import Precision


def doubt_about(precision: Precision, device: torch.device) -> str | None:
    """A sentence if the device does not compute in this precision, or only slowly; None if it does."""
    if precision == "bfloat16" and not knows_bfloat16(device):
        what = "CUDA card" if device.type == "cuda" else "processor"
        return (
            f"training.precision is bfloat16, for which this {what} has no instructions: a step may take several times "
            "as long as in float32, so set it to that"
        )
    if precision == "tf32" and not knows_tf32(device):
        return "training.precision is tf32, which only CUDA cards since Ampere know: products are taken in float32 here"
    return None


def knows_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bfloat16, as far as this torch can tell."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine().lower() in ("x86_64", "amd64"):
        probes = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
        return any(probe is None or probe() for probe in probes)
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def knows_tf32(device: torch.device) -> bool:
    """Whether the device can round the factors of products to TF32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def tf32_products(wanted: bool) -> Iterator[None]:
    """Within, if wanted, a CUDA card rounds the factors of float32 products to TF32; afterwards all is as before."""
    if not wanted:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
