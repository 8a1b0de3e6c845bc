"""What a new user gets wrong: one sentence that says what, where and what to do."""

from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from musenet.errors import UserError
from musenet.sources.tables import Tables
from sources.reading import SECOND, read, recipe_of, rows, write, write_log

NUMERIC_PRICE = {"features": {"candidate": [{"price": {"numeric": "log"}}]}}
EVENTS = {"path": "events.parquet", "user": "user", "time": "time"}


def _events(folder: Path, **changed: Any) -> None:
    events = {"user": ["u0"], "item": [1], "time": [SECOND], "kind": ["click"]} | changed
    write(folder, "events.parquet", **{name: values for name, values in events.items() if values is not None})


def _missing(folder: Path) -> Tables:
    return read(folder, "nowhere.parquet")


def _folder(folder: Path) -> Tables:
    (folder / "log.parquet").mkdir()
    return read(folder, "log.parquet")


def _unknown_ending(folder: Path) -> Tables:
    (folder / "log.xlsx").write_text("")
    return read(folder, "log.xlsx")


def _mixed_formats(folder: Path) -> Tables:
    write_log(folder)
    (folder / "log.csv").write_text("user,item,time,label\n")
    return read(folder, ["log.parquet", "log.csv"])


def _no_parquet(folder: Path) -> Tables:
    (folder / "log.parquet").write_bytes(b"anything at all" * 10)
    return read(folder, "log.parquet")


def _cut_parquet(folder: Path) -> Tables:
    write_log(folder)
    content = (folder / "log.parquet").read_bytes()
    (folder / "log.parquet").write_bytes(content[: len(content) // 2])
    return read(folder, "log.parquet")


def _damaged_pages(folder: Path) -> Tables:
    write(folder, "log.parquet", **rows(5000))
    content = bytearray((folder / "log.parquet").read_bytes())
    content[40:2000] = bytes(value ^ 0x5A for value in content[40:2000])
    (folder / "log.parquet").write_bytes(bytes(content))
    return read(folder, "log.parquet")


def _csv(folder: Path, content: bytes) -> Tables:
    (folder / "log.csv").write_bytes(content)
    return read(folder, "log.csv")


def _unlike_parts(folder: Path) -> Tables:
    (folder / "a.csv").write_text("user,item,time,label,price\na,1,1700000000,1,1\n")
    (folder / "b.csv").write_text("user,item,time,label,Price\n1,a,1700000000,1,1\n")
    return read(folder, "*.csv")


def _log(**changed: Any) -> Callable[[Path], Tables]:
    def attempt(folder: Path) -> Tables:
        recipe = recipe_of(**changed.pop("recipe", {}))
        parts = changed.pop("parts", {})
        write_log(folder, **changed)
        return read(folder, "log.parquet", recipe, **parts)

    return attempt


def _with_events(recipe: dict[str, Any], part: dict[str, Any], **changed: Any) -> Callable[[Path], Tables]:
    def attempt(folder: Path) -> Tables:
        write_log(folder)
        _events(folder, **changed)
        return read(folder, "log.parquet", recipe_of(**recipe), events=EVENTS | part)

    return attempt


MISTAKES: dict[str, tuple[Callable[[Path], Tables], str]] = {
    "missing file": (_missing, "data.impressions.path: there is no file .*nowhere.parquet"),
    "folder": (_folder, "log.parquet is a folder without files: check the path"),
    "unknown ending": (_unknown_ending, "log.xlsx is neither Parquet, CSV nor JSON"),
    "mixed formats": (_mixed_formats, "either all Parquet, all CSV or all JSON lines"),
    "no Parquet": (_no_parquet, "log.parquet cannot be read .*is it damaged or cut short"),
    "cut Parquet": (_cut_parquet, "log.parquet cannot be read .*is it damaged or cut short"),
    "damaged pages": (_damaged_pages, "log.parquet cannot be read .*is it damaged or cut short"),
    "empty file": (lambda folder: _csv(folder, b""), "log.csv holds no rows"),
    "header alone": (lambda folder: _csv(folder, b"user,item,time,label\n"), "log.csv holds no rows"),
    "not UTF-8": (
        lambda folder: _csv(folder, "user,item,time,label\nMüller,1,1,1\n".encode("latin-1")),
        "log.csv is not UTF-8 text: save it as UTF-8",
    ),
    "not UTF-8 header": (
        lambda folder: _csv(folder, "user,größe,time,label\n1,1,1,1\n".encode("latin-1")),
        "log.csv is not UTF-8 text",
    ),
    "ragged row": (
        lambda folder: _csv(folder, b"user,item,time,label\na,1,1700000000,1\na,1,1700000000,1,9\n"),
        r"log.csv cannot be read at line 3 \(expected 4 columns, found 5\): correct that line",
    ),
    "open quote": (
        lambda folder: _csv(folder, b'user,item,time,label\na,1,1700000000,1\n"a,1,1700000000,1\n'),
        r"log.csv cannot be read at line 3 \(value with unterminated quote found\): correct that line",
    ),
    "unlike parts": (_unlike_parts, "a.csv calls a column 'price' and .*b.csv 'Price': give it one name"),
    "two columns of one name": (
        lambda folder: _csv(folder, b"user,item, item,time,label\na,1,1,1700000000,1\n"),
        "two columns of one name",
    ),
    "no rows": (_log(**{name: [] for name in rows()}), "log.parquet holds no rows"),
    "missing role": (
        _log(parts={"impressions": {"item": "itm"}}),
        r"no column 'itm' \(data.impressions.item\); did you mean 'item'\?",
    ),
    "missing feature": (
        _log(device=["phone"] * 10, recipe={"features": {"context": ["Devise"]}}),
        r"no column 'Devise' \(features.context\); did you mean 'device'\?",
    ),
    "missing user feature": (
        _log(recipe={"features": {"user": ["age"]}}),
        r"no column 'age' \(features.user\); it has user, item, time, label",
    ),
    "missing history column": (_log(recipe={"history": {"columns": ["brand"]}}), r"'brand' \(history.columns\)"),
    "missing repeat key": (_log(recipe={"repeat": {"key": ["brand"]}}), r"'brand' \(repeat.key\)"),
    "missing scenario": (_log(recipe={"predefined_scenario": ["season"]}), r"'season' \(predefined_scenario\)"),
    "key that candidates lack": (
        _with_events({"repeat": {"key": ["kind"]}}, {"item": "item"}),
        r"log.parquet: there is no column 'kind' \(repeat.key\)",
    ),
    "labels 0, 1, 2": (_log(label=[0, 1, 2, 0, 1] * 2), "label' .* holds 0, 1, 2: a label is 0 or 1.*positive_kinds"),
    "kinds as labels": (_log(label=["view", "buy"] * 5), "10 of 10 rows would be refused.*label is not 0 or 1"),
    "misspelt positive kind": (
        _log(label=["view", "buy"] * 5, parts={"impressions": {"positive_kinds": ["bought"]}}),
        "never holds 'bought' of positive_kinds; it has buy, view",
    ),
    "positives alone": (_log(parts={"impressions": {"label": None}}), "names no label, .*per_request: 20"),
    "kinds without a label": (
        _log(parts={"impressions": {"label": None, "positive_kinds": ["buy"]}}),
        "positive_kinds needs data.impressions.label",
    ),
    "times in words": (_log(time=["last Monday"] * 10), "time is not a time .*last Monday"),
    "times of the day": (
        _log(time=[time(5)] * 10),
        r"'time' \(data.impressions.time\) is of type time",
    ),
    "text in a number": (
        _log(price=["cheap"] * 10, recipe=NUMERIC_PRICE),
        "10 of 10 rows would be refused .*price is not a number, for example .*cheap",
    ),
    "lists as a number": (
        _log(price=[[1.0]] * 10, recipe=NUMERIC_PRICE),
        r"'price' \(features.candidate\) holds array",
    ),
    "mostly without users": (_log(user=[None] * 5 + ["u"] * 5), "5 of 10 rows would be refused .*user is missing"),
    "fractional ids": (_log(item=[0.5] * 10), r"'item' \(data.impressions.item\) holds fractions"),
    "boolean ids": (_log(item=[True] * 10), "ids are integers or text"),
    "unknown zone": (_log(time=["2024-01-01"] * 10, parts={"timezone": "Berlin"}), "there is no time zone 'Berlin'"),
    "kinds without a column": (
        _log(recipe={"history": {"kinds": ["click"]}}),
        "history.kinds chooses among kinds, but data.events.kind names no column",
    ),
    "unknown kind": (
        _with_events({"repeat": {"key": ["item"], "kinds": ["klick"]}}, {"item": "item", "kind": "kind"}),
        "repeat.kinds: .* holds no kind 'klick'; it has click",
    ),
    "events that say nothing": (_with_events({}, {}), "events need data.events.item"),
    "no event has an item": (
        _with_events({}, {"item": "item"}, item=["", None], user=["u0"] * 2, time=[SECOND] * 2, kind=None),
        "2 of 2 rows",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_gives_one_clear_sentence(tmp_path: Path, mistake: str) -> None:
    attempt, sentence = MISTAKES[mistake]
    with pytest.raises(UserError, match=sentence) as caught:
        attempt(tmp_path)
    assert "\n" not in str(caught.value)
