"""Figures show the data they are given, in colours that can be told apart."""

import itertools
import math
from collections.abc import Callable

import pytest

from musenet.reporting.contents import Contents
from musenet.reporting.figures import drawing, models, quality, training
from musenet.reporting.figures import scenarios as of_scenarios
from musenet.studies.comparison.results import Measured, Row
from shown_runs import model_row

ContentsOf = Callable[[str], Contents]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", drawing.PALETTE)
def test_colours_stand_out_on_light_and_dark(colour: str) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= 3
    assert (luminance(colour) + 0.05) / (luminance("#14171B") + 0.05) >= 3


def test_scenarios_differ_in_colour_or_symbol() -> None:
    assert len({drawing.mark_of(k) for k in range(56)}) == 56
    first = [drawing.mark_of(k) for k in range(8)]
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in itertools.combinations(first, 2))


def row(name: str, value: float, low: float = math.nan) -> Row:
    return model_row(name, value, 0.0, auc=Measured(value, low, 2 * value - low, [value]), role="baseline")


def test_auc_figure_has_a_dot_and_a_bar_per_model() -> None:
    figure = models.figure_auc([row("<b>x</b>", 0.7, 0.6), row("y" * 90, 0.8)])
    dots = figure.data[0]
    assert list(dots.x) == [0.7, 0.8]
    assert list(dots.error_x.arrayminus) == pytest.approx([0.1, None])
    labels = [annotation.text for annotation in figure.layout.annotations]
    assert labels[0] == "&lt;b&gt;x&lt;/b&gt;"
    assert len(labels[1]) == drawing.LABEL_LENGTH


def test_repeat_intention_is_never_shown_alone(contents_of: ContentsOf) -> None:
    scenarios = contents_of("sharp").scenarios
    assert scenarios is not None
    figure = of_scenarios.figure_repeat_intention(scenarios.portraits)
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert any("p_r" in title for title in titles)
    assert any("Repeats among clicks" in title for title in titles)
    shown = [dots.x[0] for dots in figure.data]
    observed = [portrait.repeat_share_of_positives.value for portrait in scenarios.portraits]
    intentions = [portrait.repeat_intention.value for portrait in scenarios.portraits]
    assert shown == pytest.approx([*intentions, 0.3, 0.5, 0.6, 0.8, *observed])
    assert all(axis.range is None or axis.range[0] <= 0 for axis in figure.select_xaxes())


def test_calibration_bins_hold_all_impressions(contents_of: ContentsOf) -> None:
    contents = contents_of("sharp")
    assert sum(part.impressions for part in contents.calibration) == contents.evaluation.impressions
    whole = sum(part.observed.value * part.impressions for part in contents.calibration)
    assert whole == pytest.approx(contents.evaluation.positives)
    figure = quality.figure_calibration(contents.calibration)
    assert list(figure.data[1].x) == [part.predicted for part in contents.calibration]


def test_shares_and_confidence_hold_all_requests(contents_of: ContentsOf) -> None:
    scenarios = contents_of("soft").scenarios
    assert scenarios is not None
    assert sum(of_scenarios.figure_shares(scenarios).data[0].x) == pytest.approx(1)
    assert sum(of_scenarios.figure_confidence(scenarios).data[0].y) == pytest.approx(1)
    assert sum(scenarios.largest_share) == pytest.approx(1)


def test_training_figures_show_every_term(contents_of: ContentsOf) -> None:
    curves = contents_of("sharp").curves
    assert [line.name for line in training.figure_losses(curves).data] == ["click", "auxiliary", "balance"]
    kept = training.figure_validation(curves).data[1]
    assert list(kept.x) == [700]
    names = [line.name for line in training.figure_health(curves, 4).data]
    assert names == ["confidence", "melted", *(f"Scenario {k}" for k in range(4))]
