"""A history store belongs to the log whose past it holds: however that log grows, and no other."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from musenet.errors import ExportError, StoreError
from musenet.preparation.prepare import prepare
from musenet.serving.export.export import export_run
from musenet.serving.export.log_marks import MARKS, log_marks
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.service.service import Service
from musenet.serving.store.history import WritableStore
from musenet.serving.store.rules import HistoryRules
from preparation.logs import DAY, START, Log, MemorySource, random_log, recipe
from serving.exports import SOFT, Exported, new_run
from serving.stores import click

Opened = Callable[[str, HistoryRules], WritableStore]
ANOTHER = "holds the past of another log than the model's: give the store of the model's log, or another place"


def marks(log: Log, folder: Path, name: str) -> frozenset[str]:
    return frozenset(log_marks(prepare(MemorySource(log, name), recipe(), folder / name).dataset))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, frozenset[str]]:
    """What a log is known by at several times of its life, and another one of the same users, items and days."""
    folder = tmp_path_factory.mktemp("logs")
    whole, other = random_log(1, requests=600, days=40), random_log(2, requests=600, days=40)

    def between(first: int, last: int) -> Log:
        assert whole.events is not None
        inside = pl.col("_time").is_between(START + first * DAY, START + last * DAY)
        return whole.but(impressions=whole.impressions.filter(inside), events=whole.events.filter(inside))

    logs = {"young": between(0, 12), "grown": whole, "without its past": between(15, 40), "another": other}
    return {name: marks(log, folder, name) for name, log in logs.items()}


def rules_of(log: frozenset[str]) -> HistoryRules:
    return HistoryRules(recipe().history, recipe().repeat, log)


@pytest.mark.parametrize("later", ["young", "grown", "without its past"])
def test_a_store_goes_on_with_its_log(
    address: str, opened: Opened, known: dict[str, frozenset[str]], later: str
) -> None:
    first = "grown" if later == "without its past" else "young"
    with opened(address, rules_of(known[first])) as store:
        store.append([click("u1", 0)])
    with opened(address, rules_of(known[later])) as store:
        assert store.some_users(9) == ["u1"]
        store.check()
    with opened(address, rules_of(known["grown"])) as store:
        assert store.some_users(9) == ["u1"]


def test_a_store_of_another_log_is_refused_and_stays_what_it_was(
    address: str, opened: Opened, known: dict[str, frozenset[str]]
) -> None:
    opened(address, rules_of(known["grown"])).close()
    with pytest.raises(StoreError, match=ANOTHER):
        opened(address, rules_of(known["another"]))
    opened(address, rules_of(known["young"])).close()


def test_a_store_that_knows_no_log_yet_belongs_to_the_first_that_comes(
    address: str, opened: Opened, known: dict[str, frozenset[str]]
) -> None:
    """As those of earlier versions, and those that were opened by rules alone."""
    opened(address, rules_of(frozenset())).close()
    opened(address, rules_of(known["young"])).close()
    opened(address, rules_of(frozenset())).close()
    with pytest.raises(StoreError, match=ANOTHER):
        opened(address, rules_of(known["another"]))


def test_a_log_is_known_by_its_first_clicks_and_by_some_of_all(known: dict[str, frozenset[str]]) -> None:
    assert all(MARKS <= len(found) <= 2 * MARKS for found in known.values())
    assert len(known["young"] & known["grown"]) >= MARKS  # the first are the same, whatever else there is
    assert not known["another"] & (known["young"] | known["grown"] | known["without its past"])


def test_an_export_of_another_log_is_no_successor(exported: Exported, tmp_path: Path) -> None:
    other = prepare(MemorySource(random_log(7, requests=240), "other"), recipe(), tmp_path / "dataset").dataset
    folder = tmp_path / "export"
    export_run(exported.run, folder)
    service = Service(folder, str(tmp_path / "history.sqlite"))
    try:
        export_run(new_run(tmp_path / "run", other, SOFT), folder)
        with pytest.raises(ExportError, match="is of another log than the model in use: start with its own store"):
            service.reload()
        assert service.scorer.rules.log == Scorer(exported.folder).rules.log
    finally:
        service.close()
