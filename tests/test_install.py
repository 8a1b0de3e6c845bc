"""What is installed: extras by use, quick to import, and wheel and sdist that hold all they should."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from musenet.errors import EXTRAS, missing_package
from places import ROOT

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2]))"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: object, folder: Path) -> str:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_musenet_loads_nothing_that_computes() -> None:
    told = "import sys, musenet; print(*(name for name in sys.modules if name in sys.argv[1:]))"
    packages = [package for packages in EXTRAS.values() for package in packages]
    done = subprocess.run(
        [sys.executable, "-c", told, "pyarrow", "numpy", *packages], capture_output=True, text=True, check=True
    )
    assert not done.stdout.split()


def test_every_extra_brings_what_it_is_said_to() -> None:
    """What is imported is called otherwise than what is installed here and there."""
    installed = {"ibis": "ibis-framework", "sklearn": "scikit-learn", "PIL": "pillow", "starlette": "fastapi"}
    installed |= {"mlflow": "mlflow-skinny", "torchrec": "fbgemm-gpu-cpu", "upath": "universal-pathlib"}
    extras = PROJECT["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        needed = " ".join(extras[extra]).replace("_", "-")
        for package in packages:
            assert installed.get(package, package).replace("_", "-") in needed
            told = missing_package(ModuleNotFoundError(name=f"{package}.part"))
            assert str(told) == f"this needs the package {package}: install it with pip install 'musenet[{extra}]'"
    own = set(extras) - {"all", "dev", "docs"}
    assert extras["all"] == [f"musenet[{','.join(name for name in extras if name in own)}]"]
    brought = {re.split(r"[>=\[]", need)[0] for need in (*extras["serve"], *PROJECT["dependencies"])}
    assert not brought & {installed.get(package, package) for package in EXTRAS["train"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist, and the wheel that the sdist gives."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    found = {}
    for kind in ("wheel", "sdist"):
        (folder / kind).mkdir()
        found[kind] = folder / kind / run(sys.executable, "-c", BUILD, kind, folder / kind, folder=source).split()[-1]
    with tarfile.open(found["sdist"]) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (folder / "again").mkdir()
    unpacked = next((folder / "unpacked").iterdir())
    name = run(sys.executable, "-c", BUILD, "wheel", folder / "again", folder=unpacked).split()[-1]
    return found | {"again": folder / "again" / name}


@pytest.mark.slow
def test_wheel_and_sdist_hold_every_module_and_its_data(built: dict[str, Path]) -> None:
    held = {kind: set(zipfile.ZipFile(built[kind]).namelist()) for kind in ("wheel", "again")}
    assert held["wheel"] == held["again"]
    package = ROOT / "src" / "musenet"
    wanted = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert not {path.relative_to(ROOT / "src").as_posix() for path in wanted} - held["wheel"]


@pytest.mark.slow
def test_the_wheel_walks_outside_the_repository(built: dict[str, Path], tmp_path: Path) -> None:
    """In an environment of its own, which borrows the packages that it needs but not musenet itself."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path).strip())
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet"]
    run(*install, built["wheel"], folder=tmp_path)
    # Of a folder that is named in a .pth file, no .pth file is read: an editable musenet in it is not found.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    musenet = tmp_path / "env" / "bin" / "musenet"
    assert "predict clicks" in run(musenet, "--help", folder=tmp_path)
    for verb in ("train", "predict", "serve", "report"):
        assert "--" in run(musenet, verb, "--help", folder=tmp_path)
    told = (
        "import musenet; from importlib.resources import files; root = files('musenet'); print(root); "
        "print(*(one.name for part in ('reporting/pages/templates', 'serving/explorer/static') "
        "for one in (root / part).iterdir()), musenet.train.__name__, (root / 'py.typed').is_file())"
    )
    place, data = run(python, "-c", told, folder=tmp_path).splitlines()
    assert Path(place) == own / "musenet"
    assert data.split()[-2:] == ["train", "True"]
    assert len(data.split()) > 3
    few = "compare={seeds: 1, models: {base: {name: base_model, hidden: [4]}, musenet: {name: musenet, hidden: [4]}}}"
    changes = ["--set", few, "--set", "training.epochs=1", "--set", "training.batch_size=2048"]
    shown = run(musenet, "demo", "--out", "demo", "--impressions", "20000", *changes, folder=tmp_path)
    assert "ΔAUC to" in shown
    assert "The report: demo/report.html" in shown
    assert {"log", "dataset", "comparison.json"} <= {path.name for path in (tmp_path / "demo").iterdir()}
