"""The commands as Python calls."""

import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import musenet
from musenet import api
from musenet.config.loading import validate_experiment
from musenet.dataset.manifest import holds_dataset
from musenet.errors import ConfigError, RunError
from musenet.runs.folder import RunFolder
from musenet.runs.run import load_model

REQUESTS, CANDIDATES = 120, 3


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log and its YAML in one folder, while the current folder is another one."""
    log, elsewhere = tmp_path / "log", tmp_path / "elsewhere"
    log.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    random = np.random.default_rng(1)
    page = np.repeat(np.arange(REQUESTS), CANDIDATES)
    columns = {
        "who": random.integers(0, 12, REQUESTS)[page],
        "what": np.concatenate([random.permutation(15)[:CANDIDATES] for _ in range(REQUESTS)]),
        "when": 1_700_000_000_000 + page * 21_600_000,
        "bought": random.random(len(page)) < 0.3,
        "device": random.integers(0, 2, REQUESTS)[page],
    }
    pq.write_table(pa.table(columns), log / "shown.parquet")
    path = log / "shop.yaml"
    path.write_text(
        """
        name: shop
        data:
          source: own_files
          impressions: {path: shown.parquet, user: who, item: what, time: when, label: bought}
        features: {context: [device]}
        repeat: {key: [what]}
        split: {parts: 6}
        model: {name: musenet, scenarios: 2, hidden: [4], embedding: 2}
        training: {epochs: 2, batch_size: 32, validations_per_epoch: 1, threads: 1, checkpoint_every: 4}
        """
    )
    return path


def test_paths_start_from_the_configurations_folder_and_results_from_the_current_one(config: Path) -> None:
    trained = musenet.train(config, overrides=["training.epochs=1"])
    assert trained.training.run == str(trained.path) == "runs/shop"
    assert holds_dataset(Path("datasets/shop"))
    run = RunFolder.open(Path("runs/shop"))
    # The resolved configuration means the same wherever it is read.
    assert run.experiment == musenet.load(config, ["training.epochs=1"])
    assert musenet.prepare(run.experiment).dataset.manifest.fingerprint == run.dataset_fingerprint
    assert run.experiment.training.epochs == 1


def test_overrides_also_apply_to_an_experiment_in_memory(config: Path) -> None:
    experiment = musenet.load(config)
    assert musenet.load(experiment) == experiment
    assert musenet.load(experiment, ["seed=7"]).seed == 7
    with pytest.raises(ConfigError, match="training"):
        musenet.load(experiment, ["traning.epochs=1"])


def test_a_finished_run_moved_together_with_its_dataset_still_opens(config: Path) -> None:
    musenet.train(config, "here/run", dataset="here/dataset")
    Path("here").rename("there")
    first = musenet.evaluate("there/run")
    assert first.impressions == 60
    Path("there/dataset").rename("gone")
    for file in Path("there/run/predictions").glob("*"):
        file.unlink()
    with pytest.raises(RunError, match="no longer at"):
        musenet.evaluate("there/run")


def test_an_interrupted_training_resumes_to_the_same_weights(config: Path) -> None:
    musenet.train(config, "whole")

    def interrupt(moment: musenet.Moment) -> None:
        """Ctrl-C at the first report, before any validation."""
        if moment.name == "step":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        musenet.train(config, "broken", listener=interrupt)
    assert not RunFolder(Path("broken")).finished
    # What was learned until then can be looked at.
    assert musenet.Run("broken").evaluate().impressions == 60
    assert len(musenet.Run("broken").scenarios()) == REQUESTS
    with pytest.raises(RunError, match=r"training\.learning_rate"):
        musenet.train(config, "broken", resume=True, overrides=["training.learning_rate=0.1"])
    musenet.train(config, "broken", resume=True)
    expected, found = (load_model(RunFolder.open(Path(name))).state_dict() for name in ("whole", "broken"))
    assert all((expected[name] == found[name]).all() for name in expected)


def test_predictions_of_validation_and_test_are_kept(config: Path) -> None:
    musenet.train(config)
    run = RunFolder.open(Path("runs/shop"))
    files = {str(file.relative_to(run.path)) for file in run.path.rglob("*.parquet")}
    assert files == {
        f"{kind}/{split}.parquet" for kind in ("predictions", "assignments") for split in ("valid", "test")
    }
    assert not [file for file in run.path.rglob("*") if file.suffix in (".pt", ".pkl", ".pickle")]
    assert not list(run.path.rglob(".*"))
    assert {"python", "torch", "numpy", "duckdb", "musenet", "platform", "threads"} <= set(
        run.read_json("versions.json")
    )


def test_what_simulate_cannot_do_is_said() -> None:
    with pytest.raises(ConfigError, match="impressions"):
        musenet.simulate_hotels("hotels", impressions=5)
    with pytest.raises(ConfigError, match="rooms"):
        musenet.simulate_hotels("hotels", rooms=5)
    with pytest.raises(ConfigError, match="simulate hotels: a drift needs a shift above 0"):
        musenet.simulate_hotels("hotels", drift="slow")
    with pytest.raises(ConfigError, match=r"simulate ads: scale: .* \(found 2\)"):
        musenet.simulate_ads("ads", scale=2)
    with pytest.raises(ConfigError, match="given twice"):
        musenet.simulate_ads("ads", scale=0.01, impressions=50_000)


def test_the_package_offers_the_calls_and_nothing_else() -> None:
    assert all(getattr(musenet, name) is getattr(api, name) for name in musenet.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no_such_call"):
        _ = musenet.no_such_call  # type: ignore[attr-defined]


def test_experiments_built_in_python_read_from_the_current_folder(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    content = {
        "name": "shop",
        "data": {
            "source": "own_files",
            "impressions": {"path": "shown.parquet", "user": "who", "item": "what", "time": "when", "label": "bought"},
        },
        "features": {},
        "split": {"parts": 6},
    }
    assert musenet.prepare(validate_experiment(content, "python")).dataset.manifest.requests == REQUESTS
