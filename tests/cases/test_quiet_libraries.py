"""What a command prints is ours alone, to its very end, and figures that are not defined are a dash."""

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from musenet.evaluation.draws import Sample, UserDraws
from musenet.evaluation.intervals import difference, resample_model
from musenet.studies.comparison.results import Comparison
from musenet.studies.comparison.table import cells, to_markdown

CONFIG = """
name: quiet
data: {source: own_files, impressions: {path: log.csv, user: user, item: item, time: time, label: label}}
features: {context: [device]}
split: {parts: 5}
model: {name: base_model, hidden: [4], embedding: 2}
training: {epochs: 1, batch_size: 64, validations_per_epoch: 1, threads: 1}
compare: {models: {a: {name: base_model, hidden: [4], embedding: 2}, b: {name: ncf, hidden: [4]}}, seeds: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random, rows = np.random.default_rng(0), 300
    log = pd.DataFrame({name: random.integers(0, most, rows) for name, most in (("user", 12), ("item", 20))})
    log["time"], log["label"] = 1_700_000_000 + 9_000 * np.arange(rows), random.integers(0, 2, rows)
    log.assign(device=log["user"] % 2).to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "quiet.yaml").write_text(CONFIG)
    return tmp_path


def musenet(folder: Path, *arguments: str, stdout: int | None = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "musenet", *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


def test_a_comparison_in_processes_ends_without_a_word_of_libraries(folder: Path) -> None:
    """DuckDB's bindings told of a hundred objects "leaked", numpy of "Degrees of freedom"."""
    done = musenet(folder, "compare", "quiet.yaml", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert not [word for word in ("nanobind", "leaked", "Warning", "Degrees of freedom", "nan") if word in told]
    assert "p-values corrected by Holm's method" in " ".join(done.stdout.split())


def test_the_end_keeps_status_and_output(folder: Path) -> None:
    """What the interpreter would have done at its end is still done: the status told, the last line written."""
    refused = musenet(folder, "train", "nowhere.yaml")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert musenet(folder, "--version").stdout.startswith("musenet ")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        assert musenet(folder, "--version", stdout=full).returncode == 1
    finally:
        os.close(full)


def test_a_difference_that_is_nowhere_defined_warns_of_nothing() -> None:
    """Of one class alone there is no AUC, and so no spread of it."""
    label, user = np.ones(8), np.repeat(np.arange(4), 2)
    draws = UserDraws(user, 20)
    first, second = (resample_model(Sample(label, logit, user, user), draws) for logit in (label, -label))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = difference(first, second)
    assert math.isnan(found.value)
    assert math.isnan(found.standard_error)


def test_what_is_not_defined_is_a_dash_in_every_table(write_comparison: Callable[..., Path]) -> None:
    nan = math.nan
    undefined = {"mean": nan, "low": nan, "high": nan, "per_seed": [nan]}
    changes = dict.fromkeys(("auc", "gauc", "ndcg", "calibration_ratio"), undefined)
    changes |= {"rela_impr": {"value": nan, "low": nan, "high": nan}}
    unknown = dict.fromkeys(("low", "high", "p", "standard_error", "p_holm"), nan)
    to = {"model": "MUSENET soft", "value": 0.1, **unknown}
    comparison = Comparison.read(write_comparison({"other": -0.03}, changes={"other": changes | {"difference_to": to}}))
    row = comparison.row("other")
    assert row is not None
    assert "nan" not in " ".join(cells(row, comparison))
    assert cells(row, comparison).count("–") >= 6
    assert "+0.1000" in cells(row, comparison), "no bounds, but a value"
    assert "nan" not in to_markdown(comparison).splitlines()[3]
