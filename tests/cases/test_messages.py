"""Nothing that a user did ends in "internal error": a sentence says what, where and what to do, and the status is 2."""

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from musenet.cli.main import run
from musenet.config.loading import load_experiment
from musenet.config.yaml_text import DEEPEST, LARGEST, LONGEST, read_yaml
from musenet.errors import ConfigError
from musenet.studies.plans import folder_name

CONFIG = """
name: log
data:
  source: own_files
  impressions: {path: log.csv, user: user, item: item, time: time, label: label}
features: {}
split: {parts: 5}
"""


def bomb(levels: int) -> str:
    """A list of ten times the list before it, and so on."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "\n".join(lines)


def merged(levels: int) -> str:
    """The same of merged mappings, which are copied as soon as they are built."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "deep": ("a: " + "[" * 5000 + "]" * 5000, f"is nested deeper than {DEEPEST} levels"),
    "rather deep": ("a: " + "[" * 60 + "]" * 60, f"unfolds to deeper than {DEEPEST} levels at line 1"),
    "deep by aliases": (
        "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60))]),
        f"unfolds to deeper than {DEEPEST} levels",
    ),
    "cyclic": ("a: &a\n  b: [*a]", "holds itself: an alias of the value that begins at line 1"),
    "alias bomb": (bomb(12), f"unfolds to more than {LARGEST:,} values at line 6"),
    "merge bomb": (merged(12), f"unfolds to more than {LARGEST:,} values"),
    "long": ("a: " + "x" * LONGEST, f"is longer than {LONGEST:,} characters"),
    "long number": ("a: " + "9" * 5000, "Exceeds the limit"),
    "no such day": ("a: 2024-13-45", "month must be in 1..12"),
    "wrong tag": ("a: !!timestamp soon", "a value does not fit its tag"),
    "odd key": ("? [a]\n: 1", "not valid YAML.*unhashable key"),
    "key twice": ("a: 1\nb: 2\na: 3", "gives the key 'a' twice, at lines 1 and 3"),
    "not YAML": ("a: [", "is not valid YAML: .*line 1"),
    "control": ("a: \x07", "is not valid YAML: .*special characters"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_yaml_is_bounded_and_says_what_is_wrong(
    tmp_path: Path, hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, sentence = HOSTILE[hostile]
    (tmp_path / "log.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_experiment(tmp_path / "log.yaml")
    assert "\n" not in str(caught.value)
    (tmp_path / "good.yaml").write_text(CONFIG)
    value = text if hostile != "long" else text[: LONGEST + 1]
    if "\n" not in value:
        assert run(["prepare", str(tmp_path / "good.yaml"), "--set", f"name={{{value}}}"]) == 2
        assert "internal error" not in capsys.readouterr().err


def test_ordinary_aliases_and_merged_keys_are_kept() -> None:
    text = "a: &a {x: 1, y: [2, 3]}\nb: {<<: *a, x: 4}\nc: *a\n2024-03-04: 2024-03-05\n1: yes"
    a = {"x": 1, "y": [2, 3]}
    assert read_yaml(text) == {"a": a, "b": a | {"x": 4}, "c": a, "2024-03-04": "2024-03-05", "1": True}


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "", "x" * 101, "a\n"])
def test_a_name_that_is_no_folders_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "log.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError, match="name: string should"):
        load_experiment(tmp_path / "log.yaml", [f'name="{name}"'.replace("\n", "\\n")])


def test_many_mistakes_are_counted_rather_than_listed(tmp_path: Path) -> None:
    (tmp_path / "log.yaml").write_text(CONFIG + "\n".join(f"odd{place}: 1" for place in range(5000)))
    with pytest.raises(ConfigError, match=r"odd19: there is no key 'odd19' here.*; and 4980 mistakes more$"):
        load_experiment(tmp_path / "log.yaml")


def test_a_labels_folder_lies_beside_the_others() -> None:
    assert [folder_name(label) for label in ("..", "../x", ". .", "é" * 300)] == ["model", "x", "model", "é" * 60]


@pytest.mark.parametrize("name", ["events", "items"])
def test_a_file_that_is_damaged_in_its_middle_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    rows = np.arange(3000)
    roles = {"user": rows % 7, "item": rows, "time": 1_700_000_000 + 3600 * rows, "label": rows % 2}
    pd.DataFrame(roles).to_csv(tmp_path / "log.csv", index=False)
    described = {"brand": [f"b{row % 40}" for row in rows], "weight": rows / 7}
    tables = {
        "events": pd.DataFrame({"user": rows % 7, "item": rows, "time": 1_700_000_000 + rows} | described),
        "items": pd.DataFrame({"item": rows} | described),
    }
    for each, table in tables.items():
        table.to_parquet(tmp_path / f"{each}.parquet", index=False)
    content = bytearray((tmp_path / f"{name}.parquet").read_bytes())
    content[20 : len(content) // 2] = bytes(value ^ 0x5A for value in content[20 : len(content) // 2])
    (tmp_path / f"{name}.parquet").write_bytes(bytes(content))
    more = "  events: {path: events.parquet, user: user, item: item, time: time}\n"
    more += "  items: {path: items.parquet, item: item}"
    config = CONFIG.replace("features: {}", f"{more}\nfeatures: {{item: [brand]}}\nhistory: {{columns: [item, brand]}}")
    (tmp_path / "log.yaml").write_text(config)
    assert run(["prepare", str(tmp_path / "log.yaml"), "--out", str(tmp_path / "data")]) == 2
    assert "is it damaged or cut short?" in capsys.readouterr().err


def test_init_says_which_column_nearly_fitted_a_missing_role(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.DataFrame({"user_id": range(40), "item_id": ["only"] * 40, "shown_at": ["last Monday", "today"] * 20})
    rows.assign(user_id=rows.user_id % 7).to_csv(tmp_path / "log.csv", index=False)
    assert run(["init", str(tmp_path / "log.csv"), "--out", str(tmp_path / "log.yaml")]) == 2
    said = capsys.readouterr().err
    assert "no item, 'item_id' is named like one but holds 1 value" in said
    assert "no time, 'shown_at' is named like one but holds values of kind text" in said
    assert "no user" not in said


def test_init_says_which_dates_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame({"user_id": range(40), "item_id": range(40), "shown_at": ["1/2/2000", "3/4/2000"] * 20})
    rows.assign(user_id=rows.user_id % 7, item_id=rows.item_id % 9).to_csv(tmp_path / "log.csv", index=False)
    assert run(["init", str(tmp_path / "log.csv"), "--out", str(tmp_path / "log.yaml")]) == 2
    said = capsys.readouterr().err
    assert "no time, 'shown_at' holds dates such as 1/2/2000, which is 2000-02-01 (format: '%d/%m/%Y') or" in said
    assert "; write them as 2024-01-31, or give rows that tell)" in said


COMMANDS = {
    "init": ["init", "{folder}/log.csv", "--out", "{place}/log.yaml"],
    "prepare": ["prepare", "{folder}/log.yaml", "--out", "{place}/data"],
    "train": ["train", "{folder}/log.yaml", "--out", "{place}/run"],
    "hotels": ["simulate", "hotels", "--out", "{place}/log", "--impressions", "30000"],
    "ads": ["simulate", "ads", "--out", "{place}/log", "--impressions", "30000"],
    "schema": ["config-schema", "--out", "{place}/schema.json"],
    "evaluate": ["evaluate", "{place}/run"],
    "config": ["prepare", "{place}/log.yaml"],
    "files": ["init", "{place}/log.csv", "--out", "{folder}/new.yaml"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["file", "long"])
def test_a_place_that_cannot_be_is_said_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"u{row % 5},i{row % 7},{1_700_000_000 + 3600 * row},{row % 2}" for row in range(200)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time,label", *rows]) + "\n")
    (tmp_path / "log.yaml").write_text(CONFIG)
    (tmp_path / "file").write_text("")
    where = tmp_path / ("file" if place == "file" else "x" * 300)
    assert run([word.format(folder=tmp_path, place=where) for word in COMMANDS[command]]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert "internal error" not in said
    assert any(str(named) in said for named in (where, where.name[:100]))


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EROFS, "read-only file system: nothing can be written there"),
        (errno.EACCES, "permission denied: change its permissions"),
        (errno.ELOOP, "links form a loop"),
    ],
)
def test_a_disk_that_takes_nothing_is_no_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, sentence: str
) -> None:
    (tmp_path / "log.yaml").write_text(CONFIG)

    def refuse(place: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(place))

    (tmp_path / "log.csv").write_text("user,item,time,label\na,1,1700000000,1\n")
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert run(["prepare", str(tmp_path / "log.yaml"), "--out", str(tmp_path / "data" / "log")]) == 2
    assert f"{tmp_path}/data" in (said := capsys.readouterr().err)
    assert sentence in said
