"""Serving an export and scoring files need nothing of what training takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

from musenet.errors import EXTRAS
from musenet.serving.scorer.scorer import Scorer
from serving.exports import Exported, request_of, rows_of_test
from serving.prediction.test_predict import frame

SERVED = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in json.loads(sys.argv[1]):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Blocked())
from pathlib import Path

import musenet
from fastapi.testclient import TestClient
from musenet.cli.main import run
from musenet.serving.http.app import create_app
from musenet.serving.service.service import Service

folder, asked, rows, out, store = sys.argv[2:]
asked = json.loads(asked)
app = create_app(Service(Path(folder), store))
with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1)) as client:
    answers = [client.post("/score", json=asked).json()["scores"], musenet.Scorer(folder).score(asked)["scores"]]
status = [run(["predict", folder, rows, "--out", out]), run(["train", "configs/hotels.yaml"])]
print(json.dumps({"answers": answers, "status": status}))
"""


def test_scores_are_served_where_nothing_of_training_is_installed(exported: Exported, tmp_path: Path) -> None:
    row = rows_of_test(exported.dataset)[0]
    asked = request_of(exported, row)
    frame(exported, [row]).write_parquet(tmp_path / "in.parquet")
    paths = [str(tmp_path / name) for name in ("in.parquet", "out.parquet", "history.sqlite")]
    done = subprocess.run(
        [sys.executable, "-c", SERVED, json.dumps(EXTRAS["train"]), str(exported.folder), json.dumps(asked), *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    expected = Scorer(exported.folder).score(asked)["scores"]
    for scores in (*told["answers"], pl.read_parquet(tmp_path / "out.parquet")["score"].to_list()):
        np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert told["status"] == [0, 2]
    assert "this needs the package ibis: install it with pip install 'musenet[train]'" in done.stderr
