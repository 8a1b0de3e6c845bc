"""docs/extending.md as it stands there: a package of its models and its source is installed, trained and served."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from places import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r'^\[project\.entry-points\."(.*)"\]\n((?:.* = .*\n)+)', PAGE, re.MULTILINE)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as pip leaves one, with the page's package in it."""
    site = tmp_path / "site"
    info = site / "my_musenet-1.0.dist-info"
    info.mkdir(parents=True)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (site / "my_models.py").write_text(blocks[0] + "\n" + blocks[1])
    (site / "my_source.py").write_text(blocks[2])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-musenet\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "\n".join(f"[{group}]\n{lines}" for group, lines in ENTRIES).replace('"', "")
    )
    return site


def musenet(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "musenet", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=site.parent,
        env=os.environ | {"PYTHONPATH": path},
    )


def write_lines(folder: Path) -> None:
    """Users who buy again what they bought; one line is no line of the shop's."""
    draw, lines = random.Random(1), []
    for minute in range(4000):
        user, item = draw.randrange(20), draw.randrange(12)
        bought = draw.random() < (0.6 if item % 5 == user % 5 else 0.1)
        time = f"2024-03-{1 + minute // 200:02d}T{minute % 200 // 10:02d}:{minute % 10:02d}:00Z"
        lines.append(f"{time} u{user} i{item} {'bought' if bought else 'shown'}")
    folder.mkdir()
    (folder / "server.log").write_text("\n".join([*lines, "-- restarted --"]))


def test_the_page_s_package_is_prepared_trained_compared_exported_and_scored(site: Path) -> None:
    write_lines(site.parent / "lines")
    content = {
        "name": "shop",
        "data": {"source": "shop_lines", "folder": "lines"},
        "features": {"context": ["hour"]},
        "history": {"columns": ["item"], "length": 10},
        "repeat": {"key": ["item"]},
        "split": {"test": "3 days", "valid": "3 days"},
        "model": {"name": "counted_musenet", "scenarios": 2, "hidden": [8], "embedding": 4},
        "training": {
            "epochs": 4,
            "batch_size": 128,
            "threads": 1,
            "learning_rate": 0.01,
            "embedding_learning_rate": 0.03,
        },
        "compare": {
            "models": {
                "counted": {"name": "counted_musenet", "scenarios": 2, "hidden": [8], "embedding": 4},
                "matched": {"name": "matched", "size": 4, "embedding": 4},
            },
            "seeds": 1,
        },
    }
    (site.parent / "shop.yaml").write_text(yaml.safe_dump(content))
    compared = musenet(site, "compare", "shop.yaml", "--json")
    assert compared.returncode == 0, compared.stderr
    found = {row["name"]: row for row in json.loads(compared.stdout)["models"]}
    assert found["counted"]["auc"]["mean"] > 0.6
    assert set(found) == {"counted", "matched"}
    checks = json.loads((site.parent / "datasets" / "shop" / "checks.json").read_text())
    assert {"table": "impressions", "what": "dropped: no line of four words", "rows": 1} in checks["rows"]

    run = site.parent / "runs" / "shop" / "counted" / "seed-1"
    assert musenet(site, "export", str(run), "--out", "export").returncode == 0
    rows = pl.DataFrame({"user": ["u1"] * 12, "item": [f"i{k}" for k in range(12)], "hour": [12] * 12})
    rows.write_parquet(site.parent / "asked.parquet")
    scored = musenet(
        site, "predict", "export", "asked.parquet", "--out", "scored.parquet", "--now", "2024-03-21T00:00:00Z"
    )
    assert scored.returncode == 0, scored.stderr
    assert pl.read_parquet(site.parent / "scored.parquet")["score"].is_between(0, 1).all()


MISTAKES = {
    "no options": ("    options_type = MatchedOptions\n", "", "its options_type is no subclass of ModelOptions"),
    "another name": (
        'name: Literal["matched"]',
        'name: Literal["inner"]',
        'MatchedOptions does not say name: Literal["matched"]',
    ),
    "no model": ("class Matched(ClickModel)", "class Matched(nn.Module)", "it is no subclass of ClickModel"),
    "no forward": (
        "def forward(self, batch, progress=1.0)",
        "def predict(self, batch)",
        "it has no forward(batch, prog",
    ),
    "no progress": ("batch, progress=1.0", "batch", "it has no forward(batch, progress)"),
    "losses": (
        "def forward(self, batch",
        "def losses(self, prediction):\n        pass\n\n    def forward(self, batch",
        "has no losses(",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_model_that_is_not_as_the_page_says_is_refused(site: Path, mistake: str) -> None:
    before, after, said = MISTAKES[mistake]
    (site.parent / "shop.yaml").write_text("name: shop\n")
    code = (site / "my_models.py").read_text()
    assert before in code
    (site / "my_models.py").write_text(code.replace(before, after))
    refused = musenet(site, "prepare", "shop.yaml")
    assert refused.returncode == 2
    assert "the package my-musenet adds 'matched' to musenet.models, but " in refused.stderr
    assert said in refused.stderr
    assert "see docs/extending.md" in refused.stderr


def test_a_source_that_is_not_as_the_page_says_is_refused(site: Path) -> None:
    (site.parent / "shop.yaml").write_text("name: shop\n")
    code = (site / "my_source.py").read_text()
    (site / "my_source.py").write_text(code.replace("def size(self)", "def sizes(self)"))
    refused = musenet(site, "prepare", "shop.yaml")
    assert refused.returncode == 2
    assert "adds 'shop_lines' to musenet.sources, but it has no size()" in refused.stderr


def test_an_error_within_a_package_names_its_line(site: Path) -> None:
    write_lines(site.parent / "lines")
    code = (site / "my_source.py").read_text()
    (site / "my_source.py").write_text(
        code.replace("        lines = [", "        raise KeyError('what')\n        lines = [")
    )
    line = 1 + code[: code.index("        lines = [")].count("\n")
    content = {
        "name": "shop",
        "data": {"source": "shop_lines", "folder": "lines"},
        "features": {},
        "split": {"parts": 5},
    }
    (site.parent / "shop.yaml").write_text(yaml.safe_dump(content))
    refused = musenet(site, "prepare", "shop.yaml")
    assert refused.returncode == 2
    assert f"KeyError: 'what' (in the package my-musenet, my_source.py line {line})" in refused.stderr
    assert "please report it" not in refused.stderr


def test_what_a_package_adds_wrongly_is_said_in_a_sentence(site: Path) -> None:
    (site.parent / "shop.yaml").write_text("name: shop\n")
    (site / "my_models.py").write_text("import nothing_of_this_name\n")
    refused = musenet(site, "prepare", "shop.yaml")
    assert refused.returncode == 2
    assert "the package my-musenet adds 'counted_musenet' to musenet.models, and it cannot be loaded" in refused.stderr
    assert "Traceback" not in refused.stderr
    entries = site / "my_musenet-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[musenet.models]\ndin = my_models:Din\n")
    assert "adds 'din' to musenet.models, where it is already" in musenet(site, "prepare", "shop.yaml").stderr
