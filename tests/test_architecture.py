"""The house: imports run one way, rooms are small, tests stand where what they test stands."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType

import pytest

import musenet
from places import ROOT, TESTS

SRC = ROOT / "src"
PACKAGE = SRC / "musenet"
LAYERS = (
    (
        "errors",
        "options",
        "files",
        "workspace",
        "storage",
        "ahead",
        "frames",
        "progress",
        "reporter",
        "markdown",
        "metrics",
        "results",
        "calibration",
        "plugins",
    ),
    ("dataset",),
    ("recipe",),
    ("distributed",),
    ("engines",),
    ("sources",),
    ("preparation",),
    ("models",),
    ("config",),
    ("evaluation",),
    ("runs",),
    ("training",),
    ("adaptation",),
    ("portraits",),
    ("studies",),
    ("tracking",),
    ("reporting",),
    ("serving",),
    ("simulators",),
    ("api",),
    ("cli", "__main__"),
)
"""From the ground up: nothing imports from a line below its own. docs/architecture.md draws them."""

LEVEL = {child: level for level, layer in enumerate(LAYERS) for child in layer}
MODULE_LINES, FUNCTION_LINES, FOLDER_MODULES = 350, 60, 14


def name_of(file: Path) -> str:
    """The dotted name of a module; a package's is that of its `__init__.py`."""
    parts = file.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = MappingProxyType({name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))})
PACKAGES = [name for name, file in FILES.items() if file.name == "__init__.py"]
FOLDERS = sorted({file.parent for file in FILES.values()})


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> frozenset[str]:
    """The modules of musenet that a module imports, inside functions and for types alone included.

    The package itself lends `__version__` to all; its other names are calls of `musenet.api`.
    """
    found = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: a relative import"
            source = node.module or ""
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                calls = source == "musenet" and alias.name != "__version__"
                found.add(whole if whole in FILES else "musenet.api" if calls else source)
    return frozenset(found & set(FILES) - {module, "musenet"})


def room(module: str) -> str:
    """The child of `musenet` that a module is or lies in."""
    return module.split(".")[1]


def children(package: str) -> dict[str, set[str]]:
    """Per child of a package, module or folder as a whole, the siblings that it imports from."""
    depth = package.count(".") + 1
    found: dict[str, set[str]] = {}
    for module in FILES:
        if not module.startswith(f"{package}."):
            continue
        child = module.split(".")[depth]
        siblings = {other.split(".")[depth] for other in imports_of(module) if other.startswith(f"{package}.")}
        found.setdefault(child, set()).update(siblings - {child})
    return found


def functions(module: str) -> Iterator[tuple[str, int]]:
    """Every function of a module, nested ones and methods included, with the number of its lines."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module}.{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_every_room_has_its_layer():
    assert set(children("musenet")) == set(LEVEL)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer[0])
def test_nothing_imports_from_a_higher_layer(layer: tuple[str, ...]):
    upwards = [
        f"{module} imports {other}"
        for module in FILES
        if module != "musenet" and room(module) in layer
        for other in imports_of(module)
        if LEVEL[room(other)] > LEVEL[room(module)]
    ]
    assert not upwards


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_in_no_circle(package: str):
    """Modules of one circle lie in two children of some package, so that this finds circles of modules too."""
    try:
        TopologicalSorter(children(package)).prepare()
    except CycleError as error:
        pytest.fail(f"{package}: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(SRC).as_posix())
def test_a_folder_holds_a_dozen_modules(folder: Path):
    modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= FOLDER_MODULES


def test_modules_are_short():
    lines = {module: file.read_text(encoding="utf-8").count("\n") for module, file in FILES.items()}
    assert not [module for module, count in lines.items() if count > MODULE_LINES]


def test_functions_are_short():
    lines = [found for module in FILES for found in functions(module)]
    assert not [name for name, count in lines if count > FUNCTION_LINES]


def test_no_folder_hides_a_call():
    """`musenet.<folder>` would be the folder as soon as something in it is imported."""
    folders = {folder.name for folder in FOLDERS if folder.parent == PACKAGE}
    assert not folders & set(musenet.__all__)


def test_tests_stand_where_what_they_test_stands():
    folders = {file.parent.relative_to(TESTS) for file in TESTS.rglob("*.py")} - {Path("benchmarks"), Path("cases")}
    assert not [folder for folder in folders if not (PACKAGE / folder / "__init__.py").is_file()]


def test_the_house_is_drawn_as_it_stands():
    """From the roof down by docs/architecture.md; CONTRIBUTING.md lists the same rooms."""
    rooms = [room for layer in reversed(LAYERS) for room in reversed(layer) if room != "__main__"]
    picture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    assert " ".join(re.findall(r"[│┤►] (\w+(?: \w+)*) {2}", picture)).split() == rooms
    layout = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Layout")[1].split("\n## ")[0]
    assert set(rooms) <= set(re.findall(r"(\w+)(?:/|\.py)", layout))
