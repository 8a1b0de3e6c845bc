"""Scoring and exporting take no memory for the embedding table, of which they use a few rows at a time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import write_manifest
from musenet.preparation.prepare import prepare
from musenet.runs.folder import RunFolder
from musenet.serving.drift.reference import REFERENCE
from musenet.serving.text_index import map_column
from places import TESTS
from preparation.logs import MemorySource, random_log, recipe
from serving.exports import SMALL, new_run

pytestmark = pytest.mark.slow

BASE = SMALL | {"name": "base_model"}
ROWS = 4_000_000
"""Of the table, nearly all of values that no row of the log has."""
LIMIT = 32_000_000
"""Bytes, half of what the table takes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small dataset, and one of the same whose last vocabulary is said to be large."""
    folder = tmp_path_factory.mktemp("large")
    dataset = prepare(MemorySource(random_log(requests=240)), recipe(), folder / "small").dataset
    new_run(folder / "run-small", dataset, BASE)
    shutil.copytree(folder / "small", folder / "large")
    vocabularies = dict(dataset.manifest.vocabularies)
    vocabularies[list(vocabularies)[-1]] = ROWS
    write_manifest(folder / "large", dataset.manifest.model_copy(update={"vocabularies": vocabularies}))
    new_run(folder / "run-large", Dataset(folder / "large"), BASE)
    return folder


def test_with_memory_for_half_the_table_a_run_is_scored_and_exported(folder: Path) -> None:
    script, runs = Path(__file__).with_name("bounded_memory.py"), (folder / "run-large", folder / "run-small")
    done = subprocess.run(
        list(map(str, (sys.executable, script, LIMIT, *runs, folder / "exports"))),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))},
    )
    assert done.returncode == 0, done.stderr
    table, kept = map_column(folder / "exports" / "run", "embeddings"), RunFolder(runs[0]).load_state()["table.weight"]
    assert len(table) > ROWS
    assert table.nbytes > 2 * LIMIT
    assert np.array_equal(table, kept.numpy())
    assert (folder / "exports" / "run" / REFERENCE).is_file()  # for which validation was scored
