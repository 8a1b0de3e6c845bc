"""Who is ahead of whom, and what a row stands for."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from rich.console import Console

from musenet.evaluation.draws import Sample, UserDraws
from musenet.evaluation.intervals import Resampled, resample_model
from musenet.models.options import Role
from musenet.models.registry import AnyModelOptions
from musenet.studies.comparison.results import Comparison
from musenet.studies.comparison.table import show, to_markdown
from musenet.studies.comparison.verdict import judge


@pytest.mark.parametrize(
    ("options", "role"),
    [
        ({"name": "din"}, "baseline"),
        ({"name": "base_model", "repeat_features": False}, "as published"),
        ({"name": "musenet"}, "musenet"),
        ({"name": "musenet", "scenarios": "auto", "assignment": "hard"}, "musenet"),
        ({"name": "musenet", "scenarios": 1}, "control"),
        ({"name": "musenet", "assignment": "gate"}, "control"),
        ({"name": "musenet", "objective": "paper"}, "control"),
        ({"name": "musenet", "assignment": "true"}, "diagnostic"),
    ],
)
def test_what_a_row_stands_for(options: dict[str, object], role: Role) -> None:
    assert TypeAdapter(AnyModelOptions).validate_python(options).role == role


def models_of(noise: dict[str, float]) -> dict[str, Resampled]:
    """Models that see the truth through so much noise."""
    random = np.random.default_rng(0)
    truth = random.normal(size=4000)
    label = (truth + random.logistic(size=4000) > 0).astype(float)
    user = np.arange(4000) // 10
    draws = UserDraws(user, 100)
    return {
        name: resample_model(Sample(label, truth + random.normal(size=4000) * amount, user, user), draws, ["auc"])
        for name, amount in noise.items()
    }


def test_the_reference_is_judged_by_the_best_of_each_role() -> None:
    models = models_of({"ours": 0.5, "weak": 3.0, "strong": 1.5, "same": 0.5, "oracle": 0.0, "blind": 0.1})
    roles: dict[str, Role] = {
        "ours": "musenet",
        "weak": "baseline",
        "strong": "baseline",
        "same": "control",
        "oracle": "diagnostic",
        "blind": "as published",
    }
    verdict = judge("ours", models, roles)
    assert verdict.best_baseline is not None
    assert verdict.best_control is not None
    assert (verdict.best_baseline.model, verdict.best_baseline.outcome) == ("strong", "ahead of")
    auc = {name: model.value("auc") for name, model in models.items()}
    assert verdict.best_baseline.difference.value == pytest.approx(auc["ours"] - auc["strong"])
    ratio = (auc["ours"] - 0.5) / (auc["strong"] - 0.5) - 1
    assert verdict.best_baseline.rela_impr.value == pytest.approx(ratio)
    assert (verdict.best_control.model, verdict.best_control.outcome) == ("same", "level with")
    assert verdict.sentence.startswith("ours is ahead of the best baseline, strong (RelaImpr +")
    assert "level with the best control, same" in verdict.sentence


def test_a_reference_that_loses_is_told_so() -> None:
    models = models_of({"ours": 2.0, "strong": 0.2})
    verdict = judge("ours", models, {"ours": "musenet", "strong": "baseline"})
    assert verdict.sentence.startswith("ours is behind the best baseline, strong (RelaImpr -")
    assert verdict.best_control is None
    assert (verdict.outcome, verdict.not_beaten) == ("loss", ["strong"])


def test_scenarios_have_paid_only_where_every_row_without_them_is_beaten() -> None:
    roles: dict[str, Role] = {"ours": "musenet", "weak": "baseline", "same": "control", "blind": "as published"}
    models = models_of({"ours": 0.5, "weak": 3.0, "same": 0.5, "blind": 4.0})
    uncontrolled = judge("ours", {name: models[name] for name in ("ours", "weak", "blind")}, roles)
    assert uncontrolled.outcome == "gain"
    assert uncontrolled.headline.startswith("Whether scenarios paid is not known: ours is ahead of the best baseline")
    assert "The table holds no control" in uncontrolled.headline
    controlled = judge("ours", models, roles | {"weak": "control", "same": "diagnostic"})
    assert controlled.headline.startswith("Scenarios paid: ours is ahead of")
    assert "holds no control" not in controlled.headline
    verdict = judge("ours", models, roles)
    assert (verdict.outcome, verdict.not_beaten) == ("no gain", ["same"])
    assert judge("weak", models, roles).outcome == "unknown"  # it learns no scenarios
    assert judge("ours", {"ours": models["ours"]}, roles).outcome == "unknown"


def test_how_surely_tuning_chose_stands_in_the_table(write_comparison: Callable[..., Path]) -> None:
    tuned = {"tuned": {"training.learning_rate": 0.01}, "tuning_margin": 0.00123, "tuning_spread": 0.00456}
    text = to_markdown(Comparison.read(write_comparison(changes={"BaseModel": tuned})))
    of_base, of_other = (line for line in text.splitlines() if line.startswith(("| BaseModel", "| one scenario")))
    assert "| 0.0012 ± 0.0046 |" in of_base
    assert "±" not in of_other
    assert "± the standard deviation of seeds" in text
    assert "tuned by" not in to_markdown(Comparison.read(write_comparison()))


@pytest.mark.parametrize("name", ["one scenario (parameters of four)", "runs/hotels/musenet-soft/seed-1"])
def test_names_are_whole_on_a_terminal(name: str, write_comparison: Callable[..., Path]) -> None:
    file = write_comparison()
    file.write_text(file.read_text().replace('"BaseModel"', f'"{name}"'))
    printed = io.StringIO()
    show(Comparison.read(file), Console(file=printed, width=80, markup=False))
    lines = printed.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    first = next(place for place, line in enumerate(lines) if line.startswith(name[:10]))
    shown = "".join(line[:20].split("(0")[0].split("0.")[0] for line in lines[first : first + 3])
    assert name.replace(" ", "") in shown.replace(" ", "")


def test_square_brackets_in_names_are_shown(write_comparison: Callable[..., Path]) -> None:
    file = write_comparison()
    file.write_text(file.read_text().replace('"BaseModel"', '"base [red]"'))
    assert "base [red]" in str(Comparison.read(file))
