"""A small log and a run on it, written file by file: scenarios as sharp or as blurred as a test asks for."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musenet.config.loading import validate_experiment
from musenet.dataset.batch import schema_of
from musenet.dataset.column_files import write_column
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import relation_folder
from musenet.dataset.manifest import Field, FieldSide, Split, checksums_of, write_manifest
from musenet.dataset.writer import Arrays, write_dataset
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.evaluation import measure
from musenet.evaluation.intervals import Difference, Interval
from musenet.evaluation.predictions import Predictions
from musenet.files import checksum
from musenet.models.options import Role
from musenet.models.registry import build_model
from musenet.reporting import contents
from musenet.reporting.contents import Contents
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.studies.comparison.results import METRICS, Comparison, DifferenceTo, Measured, Row
from musenet.studies.comparison.verdict import Rival, Verdict, outcome_of
from reporting.page_reading import Heard

USERS, ITEMS, CANDIDATES, SCENARIOS = 120, 60, 5, 4
PERIODS: dict[Split, tuple[int, int]] = {"train": (0, 600), "valid": (600, 800), "test": (800, 1800)}
HOUR = 3_600_000_000
ODD = ['<script>alert("1")</script>', 'a "b" & <i>c</i>', '<a href="https://example.org">link</a>']
FIELDS = [
    Field(name="item_id", side="item", kind="categorical", vocabulary="item_id", is_id=True),
    Field(name="city", side="item", kind="categorical", vocabulary="city"),
    Field(name="list_price", side="item", kind="dense"),
    Field(name="device", side="context", kind="categorical", vocabulary="device"),
    Field(name="days_ahead", side="context", kind="dense"),
    Field(name="distance_travelled", side="context", kind="dense"),
    Field(name="age_band", side="user", kind="categorical", vocabulary="age_band"),
]
SMALL: dict[str, Any] = {"embedding": 4, "hidden": [4]}
SMALL_MUSENET = {"name": "musenet", "scenarios": 4, "metric_space": {"hidden": [4], "dimension": 3}}
VOCABULARIES = {
    "item_id": [f"item-{n}" for n in range(ITEMS)],
    "city": ODD,
    "device": ["phone", "desktop", ODD[0]],
    "age_band": ["18 to 29", "30 to 49", "50 and over"],
}


def _arrays(random: np.random.Generator) -> tuple[Arrays, np.ndarray]:
    """The dataset's columns, and the scenario of each request."""
    requests = PERIODS["test"][1]
    candidates = requests * CANDIDATES
    scenario = random.choice(SCENARIOS, requests, p=[0.4, 0.3, 0.2, 0.1])
    by_candidate = np.repeat(scenario, CANDIDATES)
    indicator = (random.random(candidates) < 0.3).astype(np.float32)
    chance = np.where(indicator > 0, 0.15 + 0.15 * by_candidate, 0.06)
    user = random.integers(1, USERS, requests).astype(np.int32)
    arrays = Arrays(
        users={
            "age_band": random.integers(3, 6, USERS).astype(np.int32),
        },
        items={
            "item_id": (np.arange(ITEMS) + 2).astype(np.int32),
            "city": random.integers(3, 6, ITEMS).astype(np.int32),
            "list_price": random.normal(size=ITEMS).astype(np.float32),
        },
        events={
            "offset": np.arange(USERS + 1, dtype=np.int64),
        },
        requests={
            "user": user,
            "time": 1_600_000_000_000_000 + np.arange(requests, dtype=np.int64) * HOUR,
            "history_end": user.astype(np.int64) + 1,
            "candidate_offset": np.arange(requests + 1, dtype=np.int64) * CANDIDATES,
            "repeat_fraction": np.full(requests, 0.3, dtype=np.float32),
            "device": (3 + (scenario + random.integers(0, 2, requests)) % 3).astype(np.int32),
            "days_ahead": (random.normal(size=requests) + scenario - 1).astype(np.float32),
            "distance_travelled": (random.normal(size=requests) - 2 * (scenario == 2)).astype(np.float32),
        },
        candidates={
            "item": random.integers(1, ITEMS, candidates).astype(np.int32),
            "label": (random.random(candidates) < chance).astype(np.int8),
            "repeat_indicator": indicator,
            "repeat_count": indicator,
            "repeat_recency": np.where(indicator > 0, 3600.0, np.nan).astype(np.float32),
        },
    )
    return arrays, scenario


def _write_dataset(folder: Path, arrays: Arrays) -> Dataset:
    return write_dataset(
        folder,
        arrays,
        FIELDS,
        PERIODS,
        VOCABULARIES,
        fingerprint="stub",
        protocol="a row is an item shown; negatives are <shown> and not clicked",
        history_length=5,
        user_column="user_id",
        item_column="item_id",
    )


def with_column(dataset: Dataset, side: FieldSide, name: str, values: np.ndarray) -> Dataset:
    """The same dataset with another column, as if it had been prepared so."""
    write_column(relation_folder(dataset.folder, side), name, values)
    checksums = checksums_of(dataset.folder)
    write_manifest(dataset.folder, dataset.manifest.model_copy(update={"checksums": checksums}))
    return Dataset(dataset.folder)


def of_ranks(dataset: Dataset, name: str) -> Dataset:
    """The same dataset with a number of the context named as preparation names the ranks of one with quantiles."""
    column = np.asarray(dataset.column(dataset.field("context", name)))
    changed = with_column(dataset, "context", f"{name}.rank", column)
    ranks = Field(name=f"{name}.rank", side="context", kind="dense", column=name)
    fields = [ranks if field.name == name else field for field in changed.manifest.fields]
    changed.manifest = changed.manifest.model_copy(update={"fields": fields})
    return changed


def _assignment(kind: str, scenario: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    sharpness = {"sharp": 6.0, "soft": 1.0, "melted": 0.0, "dead": 6.0}
    if kind == "none":
        return None
    if kind == "one":
        return np.ones((len(scenario), 1))
    logit = sharpness[kind] * np.eye(SCENARIOS)[scenario]
    if kind != "melted":
        logit = logit + random.normal(scale=0.3, size=logit.shape)
    if kind == "dead":
        logit[:, 3] = -9.0
    return np.asarray(np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True))


def _predictions(
    dataset: Dataset, split: Split, assignment: np.ndarray | None, random: np.random.Generator
) -> Predictions:
    begin, end = PERIODS[split]
    requests = np.arange(begin, end)
    request = np.repeat(requests, CANDIDATES)
    rows = slice(begin * CANDIDATES, end * CANDIDATES)
    label, repeats = dataset.candidates.label[rows], dataset.candidates.repeat_indicator
    assert repeats is not None
    repeat = repeats[rows] > 0
    return Predictions(
        request=request,
        user=dataset.requests.user[request].astype(np.int64),
        item=dataset.candidates.item[rows].astype(np.int64),
        time=dataset.requests.time[request],
        label=label,
        logit=-2.3 + 1.2 * repeat + 0.8 * label + random.normal(scale=0.7, size=len(label)),
        weight=None,
        repeat_indicator=repeat,
        requests=requests,
        assignment=assignment,
        repeat_probability=None
        if assignment is None
        else np.tile([0.3, 0.5, 0.6, 0.8], (len(requests), 1))[:, : assignment.shape[1]],
        true_scenario=None,
    )


def _metrics_lines() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for place in range(1, 9):
        losses = {"click": 0.5 / place, "auxiliary": 0.6 / place, "balance": 0.01 / place}
        lines.append({"step": 100 * place, "planned": 800, "epoch": 0, "losses": losses})
        health = {"mean_max_probability": 0.3 + 0.05 * place, "entropy_of_use": 1.2}
        health |= {f"share_{k}": 0.25 + (k - 1.5) * 0.01 * place for k in range(SCENARIOS)}
        valid = {"auc": 0.8 - 0.1 / place, "logloss": 0.2}
        lines.append(
            {"step": 100 * place, "planned": 800, "epoch": 0, "valid": valid, "health": health, "warnings": []}
        )
    return lines


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="session")
def contents_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Contents]:
    """What the report of a run of `write_run` says, by its scenarios: gathered once, to be read."""

    @cache
    def gathered(scenarios: str) -> Contents:
        with pytest.MonkeyPatch.context() as patch:
            measure_little(patch)
            return contents.gather(write_run(tmp_path_factory.mktemp("shown"), scenarios))

    return gathered


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """As `write_run`, in the test's own folder."""
    measure_little(monkeypatch)
    return partial(write_run, tmp_path)


def measure_little(patch: pytest.MonkeyPatch) -> None:
    """What a report measures anew, on few requests: a second's work in place of many."""
    patch.setattr(contents, "MAPPED", 6)
    patch.setattr(contents, "IMPORTANCE_IMPRESSIONS", 400)
    patch.setattr(contents, "IMPORTANCE_REPEATS", 1)
    patch.setattr(contents, "IMPORTANCE_RESAMPLES", 10)


def write_run(folder: Path, scenarios: str = "sharp", name: str = "stub", **model: Any) -> Run:
    """A run below the folder that `compare` would give it; `scenarios`: sharp, soft, melted, dead, one or none."""
    random = np.random.default_rng(1)
    arrays, scenario = _arrays(random)
    dataset = _write_dataset(folder / "dataset", arrays)
    content = {
        "name": name,
        "data": {"source": "complete_journey"},
        "features": {"item": ["city"], "context": ["device"]},
        "split": {"parts": 4},
        "model": SMALL | ({"name": "base_model"} if scenarios == "none" else SMALL_MUSENET | model),
    }
    run = RunFolder.create(folder / "runs" / "soft" / "seed-1", validate_experiment(content, "stub"), dataset)
    run.save_model(build_model(run.experiment.model, schema_of(dataset)).state_dict())
    best = {"step": 700, "epoch": 0, "auc": 0.78, "logloss": 0.2}
    ended = {"run": str(run.path), "best": best, "seconds": 1.0, "samples_per_second": 5.0}
    run.write_json("training.json", ended | {"stopped": "planned steps", "parameters": 5})
    for line in _metrics_lines():
        run.append_metrics(line)
    splits: tuple[Split, ...] = ("test", "valid")
    for split in splits:
        begin, end = PERIODS[split]
        predictions = _predictions(dataset, split, _assignment(scenarios, scenario[begin:end], random), random)
        files = run.predictions_file(split), run.assignments_file(split)
        predictions.to_parquet(*files, checksum(run.model_file))
        if split == "test":
            measured = measure(predictions, split, "a protocol", UserDraws(predictions.user, 50))
            measured.model_copy(update={"weights": checksum(run.model_file)}).write(run.evaluation_file(split))
    return Run(run)


ROLES: dict[str, Role] = {
    "BaseModel": "baseline",
    "MUSENET soft": "musenet",
    "MUSENET hard": "musenet",
    "MUSENET other": "musenet",
    "true scenario": "diagnostic",
}
"""What the rows of these names stand for; all others are controls."""


def model_row(name: str, value: float, gap: float, half: float = 0.002, **more: Any) -> Row:
    """A row of a comparison whose reference is `MUSENET soft`, from which its AUC differs by the gap."""

    def measured(mean: float) -> Measured:
        return Measured(mean, mean - half, mean + half, [mean, mean])

    difference = DifferenceTo("MUSENET soft", gap, gap - half, gap + half, 0.0125, half / 2, 0.025)
    content: dict[str, Any] = {
        "name": name,
        **{metric: measured(0.2) for metric in METRICS},
        "auc": measured(value),
        "gauc": measured(value - 0.05),
        "rela_impr": Interval((value - 0.5) / 0.25 - 1, 0.01, 0.03),
        "difference_to": difference,
        "role": ROLES.get(name, "control"),
        "valid_auc": value,
        "parameters": 12345,
        "parameters_outside_embedding": 345,
        "samples_per_second": 67890.5,
        "seconds_per_epoch": 1.5,
        "tuned": None,
        "recovery": None,
        "agreement": None,
        "mean_max_probability": None,
        "runs": [],
    }
    return Row(**content | more)


def verdict_of(rows: Sequence[Row]) -> Verdict:
    """What the judge says of the first row, from the differences that the others have to it."""
    rivals = [row for row in rows[1:] if row.role in ("baseline", "control")]
    ahead = {row.name: Difference(-to.value, -to.high, -to.low, to.p) for row in rivals for to in [row.difference_to]}

    def best(role: Role) -> Rival | None:
        row = max((row for row in rivals if row.role == role), key=lambda row: row.auc.mean, default=None)
        return None if row is None else Rival(row.name, ahead[row.name], Interval(0.02, 0.01, 0.03))

    return Verdict(
        reference=rows[0].name,
        best_baseline=best("baseline"),
        best_control=best("control"),
        outcome=outcome_of(ahead),
        not_beaten=[name for name, found in ahead.items() if not found.low > 0],
    )


@pytest.fixture
def write_comparison(tmp_path: Path) -> Callable[..., Path]:
    """As `comparison_in`, in the test's own folder."""
    return partial(comparison_in, tmp_path)


def comparison_in(
    folder: Path,
    controls: dict[str, float] | None = None,
    *,
    runs: list[str] | None = None,
    file: str = "runs/comparison.json",
    changes: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """comparison.json where `compare` puts it: MUSENET soft, and others by how far they lie from it."""
    others = {"BaseModel": -0.03, "one scenario, wide": -0.01} if controls is None else controls
    rows = [model_row("MUSENET soft", 0.78, 0.0, runs=runs or [], agreement=0.8)]
    rows += [model_row(name, 0.78 + gap, gap, **(changes or {}).get(name, {})) for name, gap in others.items()]
    path = folder / file
    Comparison(
        data="stub",
        seeds=[1, 2],
        protocol="one protocol",
        reference="MUSENET soft",
        base="BaseModel",
        impressions=100,
        users=10,
        models=rows,
        verdict=verdict_of(rows),
    ).write(path)
    return path
