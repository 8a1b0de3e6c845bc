"""A file of the log's own rows gets the predictions that training wrote of them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import musenet
from musenet.config.loading import validate_experiment
from musenet.config.yaml_text import read_yaml
from musenet.dataset.roles import ITEM, REQUEST
from musenet.errors import NoHistoriesWarning
from musenet.runs.run import Run
from places import ROOT

SMALL = {
    "model": {
        "name": "musenet",
        "scenarios": 3,
        "embedding": 4,
        "hidden": [12],
        "metric_space": {"hidden": [8], "dimension": 4},
        "history_encoder": "attention",
    },
    "training": {"epochs": 1, "batch_size": 1024, "learning_rate": 0.01},
    "split": {"test": "7 days", "valid": "3 days"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained on a generated log, whose files lie beside it."""
    folder = tmp_path_factory.mktemp("hotels")
    musenet.simulate_hotels(folder / "log", impressions=20_000, seed=3)
    content = read_yaml((ROOT / "configs" / "hotels.yaml").read_text(encoding="utf-8"))
    for part in ("impressions", "events", "users", "items"):
        content["data"][part]["path"] = str(folder / "log" / Path(content["data"][part]["path"]).name)
    content = {name: value for name, value in content.items() if name not in ("compare", "sweep", "ablate")}
    experiment = validate_experiment(content | SMALL, "hotels")
    musenet.train(experiment, dataset=folder / "dataset", out=folder / "run")
    musenet.export(folder / "run", folder / "export")
    return Run.open(folder / "run")


def test_the_test_period_gets_the_predictions_of_training(run: Run, tmp_path: Path) -> None:
    log = run.path.parent / "log"
    told = run.predictions("test")
    requests, items = run.dataset.keys("requests"), run.dataset.keys("items")
    trained = pl.DataFrame(
        {
            "search_id": requests[REQUEST].take(told.request).to_pylist(),
            "hotel_id": items[ITEM].take(told.item).to_pylist(),
            "expected": 1 / (1 + np.exp(-told.logit)),
        }
    )
    shown = pl.read_parquet(log / "impressions.parquet")
    tested = shown.filter(pl.col("search_id").is_in(trained["search_id"].unique().to_list()))
    tested.write_parquet(tmp_path / "tested.parquet")
    export, out = run.path.parent / "export", tmp_path / "scores.parquet"
    musenet.predict(export, tmp_path / "tested.parquet", out, events=log / "clicks.parquet")
    scored = pl.read_parquet(out)
    assert scored.drop("score").equals(tested)
    both = scored.join(trained, on=["search_id", "hotel_id"], how="left", maintain_order="left")
    np.testing.assert_allclose(both["score"], both["expected"], atol=1e-5, rtol=0)

    with pytest.warns(NoHistoriesWarning, match=r"no histories are given, but hotels-.* \(--events FILE\)"):
        musenet.predict(export, tmp_path / "tested.parquet", out)
    without = pl.read_parquet(out)["score"]
    assert np.abs(without.to_numpy() - both["expected"].to_numpy()).max() > 1e-3
