"""A log that no code here has seen: from its files to an evaluated model by the commands alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from musenet.cli.main import run
from odd_logs import write_positives, write_three_files

pytestmark = pytest.mark.slow


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize("write", [write_three_files, write_positives])
def test_from_files_to_an_evaluated_model_without_an_edit(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    written = write(tmp_path)
    files = [str(file) for file in (written if isinstance(written, list) else [written])]
    assert run(["init", *files, "--out", "log.yaml"]) == 0
    assert run(["prepare", "log.yaml", "--out", "prepared", "--json"]) == 0
    name = last_line(capsys)
    assert name
    small = ["--set", "training.batch_size=256", "--set", "training.threads=1", "--set", "training.epochs=1"]
    assert run(["train", "log.yaml", "--out", "run", *small, "--json"]) == 0
    trained = last_line(capsys)
    assert trained["best"]["step"] > 0
    assert run(["evaluate", "run", "--json"]) == 0
    found = last_line(capsys)
    assert found["impressions"] > found["positives"] > 0
    assert 0 < found["auc"]["low"] <= found["auc"]["value"] <= found["auc"]["high"] <= 1
    assert abs(sum(found["scenarios"]["share"]) - 1) < 1e-6
    assert ("sampled" in found["protocol"]) == (write is write_positives)
