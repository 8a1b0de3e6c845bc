"""Addresses and the folders of their copies tell each other."""

from pathlib import Path

import pytest

from musenet.errors import UserError
from musenet.storage.addresses import address, addresses_in, copy_of, here, is_copy, url_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("place", ["s3://bucket/runs/a", "gs://bucket/runs/a=1/b c", "az://box/x"])
def test_an_address_and_its_copy_tell_each_other(place: str, cache: Path) -> None:
    folder = copy_of(place)
    assert folder.is_relative_to(cache)
    assert is_copy(folder)
    assert address(folder) == place
    assert address(folder.with_name("beside") / "model") == place.rpartition("/")[0] + "/beside/model"
    assert copy_of(Path(place)) == folder, "pathlib folds slashes"
    assert (
        addresses_in(f"{folder}/x is missing, see {Path(place)}: do so") == f"{place}/x is missing, see {place}: do so"
    )


def test_paths_of_this_machine_are_left_alone(tmp_path: Path) -> None:
    for path in (tmp_path / "runs", Path("runs/a"), Path("a:/b")):
        assert copy_of(path) == path
        assert url_of(path) is None
        assert address(path) == str(path)
        assert here(path) == path
        assert not is_copy(path)


@pytest.mark.parametrize("place", ["https://host/runs/a", "s3://", "s3://bucket/../other", "s3://bucket/a/../../b"])
def test_where_nothing_can_lie(place: str) -> None:
    with pytest.raises(UserError, match="are folders or buckets"):
        copy_of(place)


def test_what_is_written_here_alone_says_so() -> None:
    with pytest.raises(UserError, match=r"^s3://bucket/a: this is written to local folders only"):
        here("s3://bucket/a")
