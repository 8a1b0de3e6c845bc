"""The comparison as the report reads it: rows from `compare`'s JSON, and whether scenarios paid."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from musenet.errors import RunError
from musenet.evaluation.intervals import Difference, Interval
from musenet.runs.folder import RunFolder

Role = Literal["learned", "control", "base", "diagnostic"]
"""Scenarios that are learned; a MUSENET without learned ones; another model; one that is told the truth."""

Outcome = Literal["gain", "no gain", "loss", "unknown"]

_CONTROL_WORDS = ("one scenario", "one-scenario", "single", "wide", "uniform", "permuted", "predefined")
_LEARNED_WORDS = ("musenet", "soft", "hard", "gate", "robust", "paper", "scenarios")


@dataclass(frozen=True)
class ModelRow:
    """One model of the table. Figures that the file does not hold are None."""

    name: str
    role: Role
    soft: bool
    """Learned with soft assignment: what the headline speaks of if the run is in no row."""
    auc: Interval
    gauc: float | None
    logloss: float | None
    rela_impr: Interval | None
    compared_with: str | None
    difference: Difference | None
    """Its AUC minus that of `compared_with`, paired."""
    parameters: float | None
    samples_per_second: float | None
    agreement: float | None
    """Mean ARI between the assignments of two seeds."""
    runs: list[str]


@dataclass(frozen=True)
class ComparisonFacts:
    """The whole table and under which protocol it was made."""

    data: str
    seeds: int
    protocol: str
    base: str | None
    rows: list[ModelRow]


@dataclass(frozen=True)
class Verdict:
    """Whether scenarios paid: the subject's AUC minus the rival's."""

    outcome: Outcome
    subject: ModelRow | None = None
    rival: ModelRow | None = None
    difference: Difference | None = None
    also_level_with: str | None = None
    """Another base or control whose interval holds zero or lies above: no gain is claimed then."""
    not_paired_with: tuple[str, ...] = ()
    """Weaker base and control rows that the file does not pair with the subject."""


def find_comparison(run: RunFolder) -> Path | None:
    """The comparison.json that `musenet compare` wrote two folders above the run, if it names this run."""
    file = run.path.resolve().parent.parent / "comparison.json"
    if not file.is_file():
        return None
    return file if row_of(read_comparison(file), run) is not None else None


def row_of(comparison: ComparisonFacts | None, run: RunFolder) -> ModelRow | None:
    """The row that the run is a seed of."""
    rows = [] if comparison is None else comparison.rows
    return next((row for row in rows if _is_run_of(row, run)), None)


def read_comparison(file: Path) -> ComparisonFacts:
    """What `compare` wrote (docs/commands.md).

    Raises:
        RunError: if the file is missing, damaged, or no comparison.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        seeds = content["seeds"]
        return ComparisonFacts(
            data=str(content["data"]),
            seeds=seeds if isinstance(seeds, int) else len(seeds),
            protocol=str(content.get("protocol", "")),
            base=content.get("base"),
            rows=[_row(row, file.parent) for row in content["models"]],
        )
    except OSError as error:
        raise RunError(f"{file} cannot be read ({error}): give the JSON that `musenet compare` wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is no comparison ({error!r}): give the JSON that `musenet compare` wrote") from error


def judge(comparison: ComparisonFacts | None, run: RunFolder) -> Verdict:
    """The run's row (or the first soft one) against the strongest row without learned scenarios.

    A gain is said only if the whole interval lies above zero against every base and control row that can be paired.
    """
    subject = None if comparison is None else _subject(comparison, run)
    if comparison is None or subject is None:
        return Verdict("unknown")
    rivals = [row for row in comparison.rows if row.role in ("base", "control") and row.name != subject.name]
    if not rivals:
        return Verdict("unknown", subject)
    rival = max(rivals, key=lambda row: row.auc.value)
    difference = _difference(subject, rival)
    outcome = _outcome(difference)
    undecided = [row.name for row in rivals if row is not rival and _outcome(_difference(subject, row)) in _NOT_BEATEN]
    also = undecided[0] if outcome == "gain" and undecided else None
    unpaired = tuple(row.name for row in rivals if row is not rival and _difference(subject, row) is None)
    return Verdict("no gain" if also else outcome, subject, rival, difference, also, unpaired)


_NOT_BEATEN: tuple[Outcome, ...] = ("no gain", "loss")


def _outcome(difference: Difference | None) -> Outcome:
    if difference is None or not _finite(difference.low, difference.high):
        return "unknown"
    if difference.low > 0:
        return "gain"
    return "loss" if difference.high < 0 else "no gain"


def _subject(comparison: ComparisonFacts, run: RunFolder) -> ModelRow | None:
    learned = [row for row in comparison.rows if row.role == "learned"]
    own = [row for row in learned if _is_run_of(row, run)]
    soft = [row for row in learned if row.soft]
    return next(iter([*own, *soft, *learned]), None)


def _is_run_of(row: ModelRow, run: RunFolder) -> bool:
    return any(Path(path).resolve() == run.path.resolve() for path in row.runs)


def _difference(subject: ModelRow, rival: ModelRow) -> Difference | None:
    """Subject minus rival if the file pairs the two, whichever of them was the reference."""
    if subject.compared_with == rival.name and subject.difference is not None:
        return subject.difference
    if rival.compared_with == subject.name and rival.difference is not None:
        found = rival.difference
        return Difference(-found.value, -found.high, -found.low, found.p)
    return None


def _row(content: dict[str, Any], folder: Path) -> ModelRow:
    runs = [str(path) for path in content.get("runs", [])]
    role, soft = _role(str(content["name"]), runs, folder)
    to = content.get("difference_to")
    return ModelRow(
        name=str(content["name"]),
        role=role,
        soft=soft,
        auc=_interval(content["auc"]),
        gauc=_mean(content.get("gauc")),
        logloss=_mean(content.get("logloss")),
        rela_impr=None if content.get("rela_impr") is None else _interval(content["rela_impr"]),
        compared_with=None if to is None else str(to["model"]),
        difference=None if to is None else Difference(*(_number(to.get(key)) for key in ("value", "low", "high", "p"))),
        parameters=_mean(content.get("parameters")),
        samples_per_second=_mean(content.get("samples_per_second")),
        agreement=_mean(content.get("agreement")),
        runs=runs,
    )


def _role(name: str, runs: list[str], folder: Path) -> tuple[Role, bool]:
    """What kind of model a row is and whether its assignment is soft: by its first run's configuration, or its name."""
    options = _model_options(runs, folder)
    if options is None:
        return _role_by_name(name.lower())
    assignment = options.get("assignment", "soft")
    if options.get("name") != "musenet":
        return "base", False
    if assignment == "true":
        return "diagnostic", False
    learns = options.get("scenarios", 4) != 1 and assignment in ("soft", "hard", "gate")
    return ("learned" if learns else "control"), learns and assignment == "soft"


def _role_by_name(name: str) -> tuple[Role, bool]:
    if "true" in name or "oracle" in name:
        return "diagnostic", False
    if any(word in name for word in _CONTROL_WORDS):
        return "control", False
    learned = any(word in name for word in _LEARNED_WORDS)
    return ("learned" if learned else "base"), learned and "hard" not in name and "gate" not in name


def _model_options(runs: list[str], folder: Path) -> dict[str, Any] | None:
    for place in [Path(path) for path in runs] + [folder / Path(path).parent.name / Path(path).name for path in runs]:
        try:
            content = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
            options = content["model"]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
            continue
        if isinstance(options, dict):
            return options
    return None


def _interval(content: Any) -> Interval:
    """From `{"mean" or "value", "low", "high"}` or a bare number; what is missing is nan."""
    if isinstance(content, dict):
        value = content.get("mean", content.get("value"))
        return Interval(_number(value), _number(content.get("low")), _number(content.get("high")))
    return Interval(_number(content), float("nan"), float("nan"))


def _mean(content: Any) -> float | None:
    value = _interval(content).value
    return value if _finite(value) else None


def _number(content: Any) -> float:
    return float("nan") if content is None else float(content)


def _finite(*values: float) -> bool:
    return all(value - value == 0 for value in values)
