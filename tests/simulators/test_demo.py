"""The bundled demo: its configuration, and what it does to a folder."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from musenet.config.loading import load_experiment
from musenet.errors import UserError
from musenet.simulators.hotels.demo import CONFIG, IMPRESSIONS, NAME, write_demo
from musenet.simulators.hotels.hotels import HotelOptions
from places import ROOT

SMALL = HotelOptions(impressions=20_000)


def test_its_experiment_is_that_of_the_hotels_made_small() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    assert f"--impressions {IMPRESSIONS}\n" in text
    demo, hotels = load_experiment(CONFIG), load_experiment(ROOT / "configs" / "hotels.yaml")
    assert demo.name == NAME
    assert (demo.features, demo.history, demo.repeat, demo.split) == (
        hotels.features,
        hotels.history,
        hotels.repeat,
        hotels.split,
    )
    tuned = {"ids", "low_rank"}  # as small as the log: nothing is tuned
    assert demo.model == hotels.model
    known = [model.model_dump(exclude=tuned) for model in hotels.compare.models.values()]
    assert all(model.model_dump(exclude=tuned) in known for model in demo.compare.models.values())
    assert {(tuple(model.seen_ids), model.repeat_features) for model in demo.compare.models.values()} == {((), True)}


def test_an_interrupted_demo_goes_on_and_a_finished_log_is_kept(tmp_path: Path) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", SMALL, interrupt)
    assert [file.name for file in (tmp_path / "demo").iterdir()] == ["demo.yaml"]
    config = write_demo(tmp_path / "demo", SMALL)
    log = tmp_path / "demo" / "log" / "impressions.parquet"
    assert config == tmp_path / "demo" / "demo.yaml"
    assert pq.read_metadata(log).num_rows == SMALL.impressions
    before = log.stat()
    assert write_demo(tmp_path / "demo", SMALL) == config
    assert log.stat() == before


def test_what_lies_in_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    def refused() -> str:
        with pytest.raises(UserError) as told:
            write_demo(tmp_path / "demo", SMALL)
        return str(told.value)

    demo = tmp_path / "demo"
    demo.touch()
    assert "demo is a file: name a folder for the demo" in refused()
    demo.unlink()
    demo.mkdir()
    (demo / "letter.txt").touch()
    assert "demo holds something else than this demo: name another" in refused()
    (demo / "letter.txt").unlink()
    (demo / "log").mkdir(parents=True)
    (demo / "demo.yaml").write_bytes(CONFIG.read_bytes())
    assert "log is not the demo's log of 20,000 impressions" in refused()
    (demo / "log" / "impressions.parquet").write_bytes(b"PAR1, or not")
    assert "log is not the demo's log of 20,000 impressions" in refused()
    (demo / "demo.yaml").write_text("name: mine\n", encoding="utf-8")
    assert (
        f"was changed, or is of another version of musenet: run it as `musenet demo {demo / 'demo.yaml'}`" in refused()
    )
    assert (demo / "demo.yaml").read_text(encoding="utf-8") == "name: mine\n"
