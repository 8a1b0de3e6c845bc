"""What training says of a precision that the device is not made for, and where products may be in TF32."""

import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from fake_cuda import CUDA, fake_cuda
from musenet.dataset.dataset import Dataset
from musenet.evaluation.scoring import predict
from musenet.runs.folder import RunFolder
from musenet.training import loop
from musenet.training.loop import Trainer
from musenet.training.precision import doubt_about, knows_bfloat16, tf32_products
from planted import planted_experiment
from training.trained_runs import train_into

CPU = torch.device("cpu")


def processor(monkeypatch: pytest.MonkeyPatch, machine: str, *known: str) -> None:
    """Have torch find a processor of this kind that knows these instructions."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512_bf16" in known, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx" in known, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: "onednn" in known)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: "bf16" in known, raising=False)


@pytest.mark.parametrize(
    ("machine", "known", "knows"),
    [
        ("x86_64", ["onednn"], False),
        ("x86_64", ["onednn", "bf16"], False),  # oneDNN takes AVX-512 for enough
        ("x86_64", ["onednn", "avx512_bf16"], True),
        ("AMD64", ["onednn", "amx"], True),
        ("aarch64", ["onednn", "bf16"], True),
        ("aarch64", ["onednn"], False),
        ("arm64", ["bf16"], False),
    ],
)
def test_a_processor_knows_bfloat16_by_its_instructions(
    machine: str, known: list[str], knows: bool, monkeypatch: pytest.MonkeyPatch
):
    processor(monkeypatch, machine, *known)
    assert knows_bfloat16(CPU) == knows
    assert (doubt_about("bfloat16", CPU) is None) == knows
    assert doubt_about("float32", CPU) is None


def test_a_torch_that_cannot_tell_is_not_doubted(monkeypatch: pytest.MonkeyPatch):
    processor(monkeypatch, "x86_64")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert doubt_about("bfloat16", CPU) is None


@pytest.mark.parametrize(("capability", "knows"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_cards_know_both_since_ampere(capability: tuple[int, int], knows: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capability >= (8, 0))
    doubts = [doubt_about(name, CUDA) for name in ("bfloat16", "tf32")]
    assert [doubt is None for doubt in doubts] == [knows, knows]
    assert knows or "this CUDA card has no instructions" in str(doubts[0])


@pytest.mark.parametrize(("wanted", "said"), [("bfloat16", "several times as long"), ("tf32", "in float32 here")])
def test_training_says_what_the_processor_is_not_made_for(
    wanted: str, said: str, planted_dataset: Dataset, run_path: Path, monkeypatch: pytest.MonkeyPatch
):
    processor(monkeypatch, "x86_64")
    told: list[dict[str, Any]] = []
    train_into(run_path, planted_experiment(precision=wanted), planted_dataset, log=told.append)
    warnings = told[0]["warnings"]
    assert [text for text in warnings if f"training.precision is {wanted}" in text and said in text]
    assert RunFolder(run_path).training.best


def test_tf32_is_on_within_alone():
    before = torch.get_float32_matmul_precision()
    with tf32_products(False):
        assert torch.get_float32_matmul_precision() == before
    with tf32_products(True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("wanted", ["tf32", "float32"])
def test_products_of_a_step_on_a_card_are_in_tf32_and_scores_are_not(
    wanted: str, planted_dataset: Dataset, run_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "device_named", lambda _: CUDA)
    before = torch.get_float32_matmul_precision()
    seen: list[tuple[str, str]] = []

    def note(when: str) -> None:
        seen.append((when, torch.get_float32_matmul_precision()))

    with fake_cuda():
        experiment = planted_experiment(precision=wanted, device="cuda")
        trainer = Trainer(experiment, planted_dataset, RunFolder(run_path), lambda _: None)
        trainer.model.register_forward_pre_hook(lambda model, _: note("step" if model.training else "scores"))
        next(p for p in trainer.model.parameters() if p.requires_grad).register_hook(lambda _: note("gradients"))
        _, batch = next(trainer.remaining_batches())
        trainer.step(batch)
        predict(trainer.model, planted_dataset, "valid")
    of_step = "high" if wanted == "tf32" else before
    assert seen == [("step", of_step), ("gradients", of_step), ("scores", before)]
