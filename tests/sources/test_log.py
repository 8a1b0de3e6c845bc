"""A log of frames and files: what is guessed of it is what is guessed of files, told which is which."""

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import musenet
from frame_logs import shop_frames
from musenet.config.experiment import Experiment
from musenet.errors import ConfigError, DataError, UserError


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return shop_frames()


@pytest.fixture(scope="module")
def guessed(frames: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return musenet.guess(musenet.Log(**frames, folder=tmp_path_factory.mktemp("logs")))


def test_the_tables_have_the_parts_that_they_were_given_for(guessed: Experiment) -> None:
    data = guessed.content["data"]
    told = {
        name: {key: value for key, value in (data[name] or {}).items() if value and key != "path"}
        for name in data
        if isinstance(data[name], dict)
    }
    assert told == {
        "impressions": {
            "user": "user_id",
            "item": "item_id",
            "time": "shown_at",
            "label": "clicked",
            "request": "search_id",
        },
        "events": {"user": "user_id", "item": "item_id", "time": "clicked_at", "kind": "action"},
        "users": {"user": "user_id"},
        "items": {"item": "item_id"},
    }
    assert guessed.features.user == ["age"]
    assert guessed.features.item == ["city"]
    assert guessed.name == "my-log"


def test_what_names_would_not_tell_is_told(frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    """Events with the label's column would be taken for a part of the impressions; users listed twice for events."""
    events = frames["events"].assign(clicked=1)
    users = pd.concat([frames["users"], frames["users"]])
    found = musenet.guess(
        musenet.Log(frames["impressions"], events=events, users=users, items=frames["items"], folder=tmp_path)
    )
    data = found.content["data"]
    assert data["events"]["time"] == "clicked_at"
    assert data["users"]["user"] == "user_id"


@pytest.mark.parametrize(("kept", "found"), [("Europe/Zurich", "Europe/Zurich"), ("UTC", "UTC"), ("+02:00", "UTC")])
def test_the_zone_of_the_times_is_that_of_the_log(
    kept: str, found: str, frames: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    shown = frames["impressions"]
    local = pa.Table.from_pandas(shown).set_column(
        shown.columns.get_loc("shown_at"),
        "shown_at",
        pa.array(pd.DatetimeIndex(["2024-01-31 23:30"] * len(shown))).cast(pa.timestamp("us", tz=kept)),
    )
    text = str(musenet.guess(musenet.Log(local, folder=tmp_path)))
    assert f"timezone: {found} #" in text
    assert ("2024-02-01 to 2024-02-01" in text) == (found == "Europe/Zurich")


def test_frames_and_files_of_all_kinds_can_be_mixed(
    frames: dict[str, pd.DataFrame], guessed: Experiment, tmp_path: Path
) -> None:
    frames["users"].to_csv(tmp_path / "users.csv", index=False)
    half = len(frames["events"]) // 2
    for name, part in (("a", frames["events"][:half]), ("b", frames["events"][half:])):
        part.to_parquet(tmp_path / f"clicks-{name}.parquet", index=False)
    log = musenet.Log(
        pl.from_pandas(frames["impressions"]),
        events=tmp_path / "clicks-*.parquet",
        users=str(tmp_path / "users.csv"),
        items=frames["items"],
        folder=tmp_path / "kept",
    )
    found = musenet.guess(log)
    assert {**found.content, "data": 0} == {**guessed.content, "data": 0}
    assert sorted(file.name.split("-")[0] for file in (tmp_path / "kept").iterdir()) == ["impressions", "items"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"events": pl.LazyFrame({"a": [1]})}, r"events is a LazyFrame: call collect\(\) on it"),
        ({"items": {"a": [1]}}, "items is a dict: give a DataFrame"),
        ({"users": [pd.DataFrame({"a": [1]})]}, "users is a list"),
    ],
)
def test_what_is_neither_frame_nor_path_is_refused(
    frames: dict[str, pd.DataFrame], parts: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        musenet.Log(frames["impressions"], **parts, folder=tmp_path)  # type: ignore[arg-type]


def test_a_table_without_the_ids_is_refused(frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    users = frames["users"].rename(columns={"user_id": "x"}).assign(x=lambda frame: frame.x + 1000)
    with pytest.raises(DataError, match=r"users: no column holds the users of the impressions' user_id, of x, age"):
        musenet.guess(musenet.Log(frames["impressions"], users=users, folder=tmp_path))


def test_a_guess_prints_as_its_yaml_and_what_is_set_stands_in_it(guessed: Experiment) -> None:
    text = str(guessed)
    assert repr(guessed) == text
    assert "label: clicked # " in text
    mine = musenet.load(guessed)
    mine.name = "shop"
    mine.model.scenarios = 3  # type: ignore[union-attr]
    mine.training.epochs = 1
    changed = str(mine)
    assert "\nname: shop\n" in changed
    assert "label: clicked # " not in changed  # its paths are whole ones, and the part is written anew
    again = musenet.load(mine)
    assert again == mine
    assert guessed.name == "my-log"
    assert guessed.training.epochs != 1


def test_the_text_of_what_was_not_set_stays(guessed: Experiment, tmp_path: Path) -> None:
    mine = guessed.model_copy(deep=True)
    mine.model.scenarios = 3  # type: ignore[union-attr]
    before, after = str(guessed).splitlines(), str(mine).splitlines()
    assert next(line for line in before if line not in after).startswith("model: &musenet")

    assert "    label: clicked # " in "\n".join(after)
    (tmp_path / "mine.yaml").write_text("\n".join(after))
    assert musenet.load(tmp_path / "mine.yaml").content["model"] == mine.content["model"]
    assert musenet.load(tmp_path / "mine.yaml").content["compare"] == guessed.content["compare"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("epochs", 0, "epochs: 0 does not fit"),
        ("epoch", 3, "epoch: there is no such key; did you mean 'epochs'"),
        ("batch_size", "many", "batch_size: 'many' does not fit"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_is_set(guessed: Experiment, key: str, value: object, said: str) -> None:
    before = guessed.content
    with pytest.raises(ConfigError, match=said):
        setattr(guessed.training, key, value)
    assert guessed.content == before


def test_another_model_is_set_as_a_whole(guessed: Experiment) -> None:
    mine = Experiment.read(guessed.content)
    with pytest.raises(ConfigError, match="name: 'din' has other keys than 'musenet': set the whole part, as in exp"):
        mine.model.name = "din"
    mine.model = {"name": "din"}  # type: ignore[assignment]
    assert mine.model.name == "din"


def test_a_table_is_no_log(frames: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(UserError, match=r"give guess\(Log\(impressions=frame\)\)"):
        musenet.guess(frames["impressions"])  # type: ignore[arg-type]


def test_a_list_of_frames_is_no_log(frames: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(UserError, match=r"give guess\(Log\(impressions=frame\)\)"):
        musenet.guess(list(frames.values()))  # type: ignore[arg-type]


def test_fields_set_in_one_experiment_are_not_set_in_another(frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    content = {
        "name": "shop",
        "data": {
            "source": "own_files",
            "impressions": {
                "path": tmp_path / "i.parquet",
                "user": "user_id",
                "item": "item_id",
                "time": "shown_at",
                "label": "clicked",
            },
        },
        "features": {},
        "split": {"parts": 6},
    }
    content["data"]["impressions"]["path"] = str(tmp_path / "i.parquet")  # type: ignore[index]
    one, other = musenet.load(content), musenet.load(content)
    one.training.epochs = 7
    one.compare.seeds = 5
    assert other.training.epochs == musenet.load(content).training.epochs != 7
    assert other.compare.seeds != 5
    assert "epochs: 7" in str(one)


def test_load_takes_keys_and_values_with_frames_as_paths(
    frames: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {
        "name": "shop",
        "data": {
            "source": "own_files",
            "impressions": {
                "path": frames["impressions"],
                "user": "user_id",
                "item": "item_id",
                "time": "shown_at",
                "label": "clicked",
            },
        },
        "features": {"context": ["device"]},
        "split": {"parts": 6},
    }
    loaded = musenet.load(content, ["training.epochs=3"])
    path = Path(loaded.content["data"]["impressions"]["path"])
    assert path.is_absolute()
    assert pd.read_parquet(path)["price"].tolist() == frames["impressions"]["price"].tolist()
    assert loaded.training.epochs == 3
    assert content["data"]["impressions"]["path"] is frames["impressions"]  # type: ignore[index]
    with pytest.raises(ConfigError, match="the experiment: "):
        musenet.load({**content, "name": None})
