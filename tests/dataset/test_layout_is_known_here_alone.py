"""What lies where in a dataset's folder is known to `musenet/dataset` and its tests, and to no other code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from musenet.dataset.layout import RELATIONS
from places import ROOT

OWN = (ROOT / "src" / "musenet" / "dataset", ROOT / "tests" / "dataset")
ELSEWHERE = {
    "manifest.json": ["src/musenet/workspace.py", "src/musenet/serving", "tests/serving", "tests/cases", "tests/api"],
    "vocabularies": ["src/musenet/serving", "tests/serving", "tests/cases"],
    "users": ["src/musenet/serving", "tests/serving", "tests/cases"],
    "items": ["src/musenet/serving", "tests/serving", "tests/cases"],
}
"""An export is a folder of its own; what a finished folder is known by is the workspace's."""
FOLDERS = "|".join([*RELATIONS.values(), "keys", "vocabularies"])
PATH = re.compile(rf"(?:^|/)(?:({FOLDERS})/\S*|(manifest\.json))$")


def sources() -> list[Path]:
    files = (file for folder in ("src", "tests", "benchmarks", "docs") for file in (ROOT / folder).rglob("*.py"))
    return sorted(file for file in files if not any(file.is_relative_to(room) for room in OWN))


def file_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Paths inside a dataset: as one text, or a folder's name divided by or dividing something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := PATH.search(node.value)):
            yield node.lineno, found[1] or found[2]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            for part in (node.left, node.right):
                if isinstance(part, ast.Constant) and re.fullmatch(FOLDERS, str(part.value)):
                    yield node.lineno, str(part.value)


def test_no_file_of_a_dataset_is_named_outside_its_room():
    told = []
    for file in sources():
        path = file.relative_to(ROOT).as_posix()
        for line, name in file_names(ast.parse(file.read_text(encoding="utf-8"))):
            if not any(path.startswith(place) for place in ELSEWHERE.get(name, ())):
                told.append(f"{path}:{line}: {name}")
    assert told == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ('dataset.column("requests/user")', "requests"),
        ('folder / "keys" / "users.parquet"', "keys"),
        ('column(f"events/{name}")', "events"),
        ('Path("datasets/shop/manifest.json")', "manifest.json"),
        ('(out / "candidates/label.npy").unlink()', "candidates"),
    ],
)
def test_a_named_file_is_found(code: str, name: str):
    assert [found for _, found in file_names(ast.parse(code))] == [name]


@pytest.mark.parametrize("code", ['rows["requests"]', 'columns["users"]', '"two requests / one second"', "a / b"])
def test_a_relation_by_its_name_is_no_file(code: str):
    assert list(file_names(ast.parse(code))) == []
