"""Training that begins where another run ended, on a later and longer log."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import musenet as mn
from frame_logs import shop_frames
from musenet.cli import main as cli
from musenet.config.experiment import Experiment
from musenet.dataset.compatibility import rows_before, scales_moved
from musenet.dataset.dataset import Dataset
from musenet.dataset.numeric import NumericTransform
from musenet.errors import DatasetError, RunError
from musenet.portraits.moved import WarmStart, carried
from musenet.runs.folder import RunFolder
from musenet.training.loop import Trainer
from training.trained_runs import assert_same_run

YESTERDAY = pd.Timestamp("2024-03-20")
MUSENET: dict[str, Any] = {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2}


def experiment_on(frames: Mapping[str, pd.DataFrame | str], **changes: Any) -> Experiment:
    content: dict[str, Any] = {
        "name": "shop",
        "data": {
            "source": "own_files",
            "impressions": {
                "path": frames["impressions"],
                "user": "user_id",
                "item": "item_id",
                "time": "shown_at",
                "label": "clicked",
                "request": "search_id",
            },
            "events": {
                "path": frames["events"],
                "user": "user_id",
                "item": "item_id",
                "time": "clicked_at",
                "kind": "action",
            },
            "items": {"path": frames["items"], "item": "item_id"},
        },
        "features": {
            "item": ["city"],
            "context": ["device"],
            "candidate": [{"price": {"numeric": "quantiles", "buckets": 4}}],
        },
        "history": {"columns": ["item_id", "city"], "length": 5},
        "repeat": {"key": ["item_id"]},
        "split": {"test": "3 days", "valid": "3 days"},
        "model": MUSENET,
        "training": {"epochs": 2, "batch_size": 64, "validations_per_epoch": 1, "threads": 1, "checkpoint_every": 3},
    }
    return mn.load(content | changes)


def until(end: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """The log as it was then: the latest items were not sold yet."""
    frames = shop_frames()
    shown, clicks, items = frames["impressions"], frames["events"], frames["items"]
    if end <= YESTERDAY:
        shown, clicks, items = (one[one.item_id < 17] for one in (shown, clicks, items))
    return {"impressions": shown[shown.shown_at < end], "events": clicks[clicks.clicked_at < end], "items": items}


@pytest.fixture(scope="module", autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Frames are kept below the current folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("frames"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With yesterday's run, today's dataset, and today's run that began from yesterday's."""
    folder = tmp_path_factory.mktemp("warm")
    mn.train(experiment_on(until(YESTERDAY)), folder / "before", dataset=folder / "old")
    mn.train(today(), folder / "after", start_from=folder / "before", dataset=folder / "new")
    return folder


def today(**changes: Any) -> Experiment:
    return experiment_on(until(pd.Timestamp("2030-01-01")), **changes)


def vectors(dataset: Dataset, weight: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """The vector of every value, by vocabulary and text."""
    found = {}
    for name in dataset.manifest.vocabularies:
        for place, text in enumerate(["unseen", "missing", *dataset.texts(name).to_pylist()], start=1):
            found[name, text] = weight[dataset.embedding_offset[name] + place]
    return found


def plain(sentences: list[str]) -> list[str]:
    return [sentence.replace("\u00a0", " ") for sentence in sentences]


def first_weights(folder: Path, experiment: Experiment) -> dict[str, np.ndarray]:
    """What a training from yesterday's run has before its first step."""
    run = RunFolder(folder / "after")
    trainer = Trainer(experiment, run.dataset, run, lambda _: None, RunFolder(folder / "before"))
    return {name: value.numpy() for name, value in trainer.model.state_dict().items()}


def test_vectors_of_known_values_are_kept_and_those_of_new_ones_begin_fresh(folder: Path) -> None:
    old, new = Dataset(folder / "old"), Dataset(folder / "new")
    before = vectors(old, RunFolder(folder / "before").load_state()["table.weight"].numpy())
    after = vectors(new, first_weights(folder, today())["table.weight"])
    known = [value for value in after if value in before and value[0] != "price"]
    fresh = {value for value in after if value not in before and value[0] != "price"}
    assert {("item_id", "17"), ("item_id", "18"), ("item_id", "19")} <= fresh
    for value in known:
        np.testing.assert_array_equal(after[value], before[value], err_msg=str(value))
    lengths = [np.linalg.norm(after[value]) for value in fresh]
    assert all(0 < length < 4 for length in lengths)
    # The codes themselves moved, so that nothing is kept by its place.
    assert old.texts("item_id").to_pylist() != new.texts("item_id").to_pylist()[:17]


def test_a_bucket_begins_as_the_one_that_held_its_middle(folder: Path) -> None:
    old, new = Dataset(folder / "old"), Dataset(folder / "new")
    rows = rows_before(old, new)
    first, second = (NumericTransform(**one.manifest.numeric["price"]) for one in (old, new))
    assert first.edges != second.edges
    middles = [second.edges[0] - 1e-9, *np.convolve(second.edges, [0.5, 0.5], "valid"), second.edges[-1]]
    expected = pd.cut(middles, [-np.inf, *first.edges, np.inf], right=False, labels=False)
    begin = new.embedding_offset["price"] + 3
    assert (rows[begin : begin + len(middles)] - old.embedding_offset["price"] - 3).tolist() == expected.tolist()


def test_everything_but_the_table_is_carried_on_prototypes_among_it(folder: Path) -> None:
    before, after = RunFolder(folder / "before").load_state(), first_weights(folder, today())
    assert "assigner.centres" in before
    assert before.keys() == after.keys()
    for name, value in before.items():
        if name != "table.weight":
            np.testing.assert_array_equal(after[name], value.numpy(), err_msg=name)


def test_the_run_says_what_became_of_each_scenario(folder: Path) -> None:
    found = WarmStart.read(folder / "after" / "start.json")
    assert found.run == str(folder / "before")
    assert found.weights == RunFolder(folder / "before").model_checksum
    known = rows_before(Dataset(folder / "old"), Dataset(folder / "new"))[1:] >= 0
    assert (found.rows_kept, found.rows_fresh) == (known.sum(), (~known).sum())
    now = RunFolder(folder / "after")
    assigned = mn.Run(now.path)._opened.predictions("valid").assignment
    assert assigned is not None
    shares = assigned.mean(axis=0)
    assert [moved.share for moved in found.scenarios] == pytest.approx(shares.tolist())
    assert sum(moved.share_before for moved in found.scenarios) == pytest.approx(1)
    assert [moved.after.share for moved in found.scenarios] == pytest.approx(shares.tolist())


def test_names_are_carried_on_by_the_scenarios_that_they_are_of_now(folder: Path, tmp_path: Path) -> None:
    mn.name(folder / "before", {0: "business trips"})
    mn.train(today(), tmp_path / "later", start_from=folder / "before", dataset=folder / "new")
    before, after = mn.name(folder / "before").names, mn.name(tmp_path / "later").names
    places = [moved.likeliest for moved in WarmStart.read(tmp_path / "later" / "start.json").scenarios]
    assert "business trips" in before
    assert after == carried(before, places)


def test_names_follow_scenarios_that_changed_places() -> None:
    assert carried(["near", "far"], [1, 0]) == ["far", "near"]
    assert carried(["near", "far"], [1, 1]) == ["near", "far"]


def test_a_training_that_learns_nothing_moves_no_scenario(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    rates = {"learning_rate": 1e-12, "embedding_learning_rate": 1e-12}
    still = today(training={"epochs": 1, "batch_size": 4096, "threads": 1} | rates)
    again = mn.train(
        still,
        tmp_path / "still",
        start_from=folder / "after",
        dataset=folder / "new",
        listener=lambda moment: told.append(str(moment.content.get("text", ""))),
    )
    found = WarmStart.read(Path(again) / "start.json")
    assert (found.rows_fresh, set(found.scales.values())) == (0, {0.0})
    for moved in found.scenarios:
        # The metric space's running means go a step on whatever is learned.
        assert moved.share == pytest.approx(moved.share_before, abs=0.02)
        assert moved.kept > 0.95
        assert moved.likeliest == moved.scenario
    said = [text for text in told if text.startswith("scenario ")]
    assert [text.split(":")[0] for text in said] == ["scenario 0", "scenario 1"]
    assert all(re.search(r"\d+ % of the requests before, \d+ % now; \d+ % of its .*; still", t) for t in plain(said))


def test_killed_and_resumed_it_ends_as_without_the_interruption(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def until_the_fifth(self: Trainer, *args: Any) -> Any:
        if self.state.step == 5:
            raise MemoryError
        return step(self, *args)

    options: dict[str, Any] = {"start_from": folder / "before", "dataset": folder / "new"}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", until_the_fifth)
        with pytest.raises(MemoryError):
            mn.train(today(), tmp_path / "run", **options)
    with pytest.raises(RunError, match="give --resume"):
        mn.train(today(), tmp_path / "run", **options)
    with pytest.raises(RunError, match=r"another run, or none, to begin from \(--from\)"):
        mn.train(today(), tmp_path / "run", dataset=folder / "new", resume=True)
    mn.train(today(), tmp_path / "run", **options, resume=True)
    assert_same_run(tmp_path / "run", folder / "after")


def test_it_can_learn_from_what_is_new_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    step = Trainer.step

    def noted(self: Trainer, batch: Any) -> Any:
        seen.append(batch.request_index.numpy())
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", noted)
    changed = today(training={"epochs": 1, "batch_size": 64, "threads": 1, "replay": 0})
    mn.train(changed, tmp_path / "run", start_from=folder / "before", dataset=folder / "new")
    new = Dataset(folder / "new")
    until, period = Dataset(folder / "old").manifest.splits["train"].last_time, new.manifest.splits["train"]
    assert until is not None
    later = [row for row in range(period.begin, period.end) if new.requests.time[row] > until]
    assert 0 < len(later) < period.end - period.begin
    assert sorted(np.concatenate(seen)) == later


def test_new_requests_alone_need_a_run_and_a_later_log(folder: Path, tmp_path: Path) -> None:
    changed = today(training={"replay": 0})
    with pytest.raises(RunError, match="name that run with --from"):
        mn.train(changed, tmp_path / "run", dataset=tmp_path / "none")
    assert not (tmp_path / "none").exists(), "it is refused before anything is prepared"
    with pytest.raises(RunError, match="no training request later than that run's"):
        mn.train(changed, tmp_path / "run", start_from=folder / "after", dataset=folder / "new")
    assert not (tmp_path / "run").exists()


def test_a_run_with_other_first_weights_is_another_run(folder: Path) -> None:
    with pytest.raises(RunError, match=r"finished run with another run, or none, to begin from"):
        mn.train(today(), folder / "after", dataset=folder / "new")
    mn.train(today(), folder / "after", start_from=folder / "before", dataset=folder / "new")  # the same: reused


def test_it_can_be_reproduced(folder: Path, tmp_path: Path) -> None:
    assert mn.reproduce(folder / "after", tmp_path / "again").identical


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": MUSENET | {"scenarios": 3}}, r"another model\.scenarios"),
        ({"model": {"name": "base_model", "hidden": [4], "embedding": 2}}, r"another model\."),
        ({"model": {"name": "lightgbm"}}, "does not learn step by step"),
        ({"repeat": {"key": ["city"]}}, r"another repeat\.key"),
    ],
)
def test_another_model_or_recipe_is_refused_by_its_keys(
    folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    dataset = tmp_path / "data" if "repeat" in changes else folder / "new"
    with pytest.raises(RunError, match=words):
        mn.train(today(**changes), tmp_path / "run", start_from=folder / "before", dataset=dataset)
    assert not (tmp_path / "run").exists()


def test_a_number_in_another_unit_is_refused(folder: Path, tmp_path: Path) -> None:
    frames = until(pd.Timestamp("2030-01-01"))
    frames["impressions"] = frames["impressions"].assign(price=frames["impressions"].price * 1000)
    with pytest.raises(DatasetError, match=r"differs in scale of price, by \d"):
        mn.train(experiment_on(frames), tmp_path / "run", start_from=folder / "before", dataset=tmp_path / "cents")


def test_scales_are_compared_in_deviations() -> None:
    def scale(mean: float, deviation: float) -> Any:
        return type("Manifest", (), {
            "numeric": {"x": {"numeric": "standardise", "mean": mean, "deviation": deviation, "has_missing": False}},
            "vectors": {"v": {"mean": [mean, 0.0], "deviation": [deviation, 1.0], "has_missing": False}},
        })  # fmt: skip

    assert scales_moved(scale(10, 2), scale(11, 2)) == pytest.approx({"v": 0.5, "x": 0.5})
    assert scales_moved(scale(10, 2), scale(10, 3)) == pytest.approx({"v": 0.5, "x": 0.5})


def test_a_start_whose_dataset_gave_way_is_refused_with_a_remedy(folder: Path, tmp_path: Path) -> None:
    mn.train(experiment_on(until(YESTERDAY)), tmp_path / "before", dataset=tmp_path / "data")
    mn.prepare(today(), tmp_path / "data", replace=True)
    with pytest.raises(RunError, match="name another folder for the new one with --dataset"):
        mn.train(today(), tmp_path / "run", start_from=tmp_path / "before", dataset=tmp_path / "data")


def test_the_command_refuses_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unread.parquet").touch()
    files = dict.fromkeys(("impressions", "events", "items"), str(tmp_path / "unread.parquet"))
    (tmp_path / "shop.yaml").write_text(str(experiment_on(files)))
    config, start = str(tmp_path / "shop.yaml"), str(tmp_path / "none")
    assert cli.run(["train", config, "--from", start]) == 2
    assert "none does not exist: give the folder that `musenet train` wrote" in capsys.readouterr().err
