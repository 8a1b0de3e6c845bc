"""Scenarios handed out, and what is said of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import RunError
from musenet.portraits.names import scenario_names
from musenet.portraits.portraits import describe_scenarios, show_portraits
from musenet.portraits.scenario_table import write_scenarios
from musenet.runs.run import Run
from musenet.training.train_run import train_run


@pytest.fixture(scope="module")
def run(
    tiny_dataset: Dataset, make_experiment: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    model = {"name": "musenet", "assignment": "true", "hidden": [4], "embedding": 2}
    train_run(make_experiment(model=model), tiny_dataset, path)
    return Run.open(path)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_row_per_request_joins_back_on_the_logs_own_ids(run: Run, ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"scenarios.{ending}"
    assert write_scenarios(run, out) == 100
    table = pq.read_table(out) if ending == "parquet" else pyarrow.csv.read_csv(out)
    keys = run.dataset.keys("requests")
    assert (table["request"].to_pylist(), table["user_id"].to_pylist()) == (
        keys["_request"].to_pylist(),
        keys["_user"].to_pylist(),
    )
    assert table["time"].cast(pa.timestamp("us", "UTC")).cast("int64").to_pylist() == keys["_time"].to_pylist()
    assert table["split"].to_pylist() == ["train"] * 60 + ["valid"] * 15 + ["test"] * 25
    # The true scenario is what this run assigns.
    truth = np.asarray(run.dataset.requests.true_scenario)
    np.testing.assert_array_equal(table["scenario"].to_numpy(), truth)
    assert table["scenario_name"].to_pylist() == [scenario_names(run)[k] for k in truth]
    np.testing.assert_allclose(table["confidence"].to_numpy(), 1.0)
    np.testing.assert_allclose(table["probability_0"].to_numpy() + table["probability_1"].to_numpy(), 1.0)
    repeat = table["repeat_probability_0"].to_numpy()
    assert ((repeat > 0) & (repeat < 1)).all()


def test_portraits_name_what_sets_scenarios_apart(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musenet.portraits.contrasts.SMALLEST_COUNT", 1.0)
    portraits = describe_scenarios(run)
    truth = run.predictions("test").true_scenario
    assert truth is not None
    for k, portrait in enumerate(portraits):
        assert portrait.requests == pytest.approx((truth == k).sum())
        device = next(value for value in portrait.values if value.field == "device")
        # The true scenario is the device.
        assert (device.value, device.share) == (f"device-{k}", 1.0)
        assert device.count == pytest.approx(portrait.requests)
        assert device.lift == pytest.approx(25 / portrait.requests)
    days = np.asarray(run.dataset.column(run.dataset.field("context", "days_ahead")))[75:].astype(np.float64)
    expected = (days[truth == 0].mean() - days.mean()) / days.std()
    found = [number.difference for number in portraits[0].numbers if number.field == "days_ahead"]
    assert found == ([pytest.approx(expected)] if abs(expected) >= 0.1 else [])
    console = Console(record=True, width=200)
    show_portraits(portraits, console)
    assert "device = device-1" in console.export_text()


def test_other_endings_and_models_without_scenarios_are_refused(
    run: Run, tiny_dataset: Dataset, make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"\.parquet or \.csv"):
        write_scenarios(run, tmp_path / "scenarios.txt")
    train_run(make_experiment(model={"name": "base_model", "hidden": [4]}), tiny_dataset, tmp_path / "base")
    with pytest.raises(RunError, match="without scenarios"):
        write_scenarios(Run.open(tmp_path / "base"), tmp_path / "scenarios.csv")
    assert not (tmp_path / "scenarios.csv").exists()
