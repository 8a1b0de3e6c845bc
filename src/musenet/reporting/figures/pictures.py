"""The page's pictures: each figure with its title, how to read it, and the numbers behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from musenet.portraits.words import listing, percent, signed
from musenet.reporting.contents import Contents, ScenarioFacts
from musenet.reporting.figures import rows as data
from musenet.reporting.figures.models import figure_auc, figure_gains
from musenet.reporting.figures.quality import figure_calibration, figure_importance
from musenet.reporting.figures.requests import figure_map, figure_over_time
from musenet.reporting.figures.scenarios import (
    figure_click_rates,
    figure_confidence,
    figure_differences,
    figure_repeat_intention,
    figure_shares,
)
from musenet.reporting.figures.training import figure_health, figure_losses, figure_validation
from musenet.reporting.words import captions, sentences

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BARS = "Bars are 95\u00a0% intervals over users."
IMPORTANT = 10
"""Features drawn; the CSV file holds all."""


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its anchor, title, what it shows in words, and how to read it."""

    name: str
    title: str
    description: str
    """Read out in place of the picture."""
    caption: str
    figure: "Figure"
    rows: data.Rows
    """The numbers behind it."""
    on_hover: str = ""
    """What only the figure on the screen can tell."""


def pictures_of(contents: Contents) -> Iterator[Picture]:
    """Every figure that there is data for, in the page's order."""
    if contents.scenarios is not None:
        yield from scenario_pictures(contents.scenarios)
    if contents.comparison is not None and contents.comparison.models:
        yield _auc_picture(contents)
    if contents.gains is not None and contents.gains.rows:
        yield _gains_picture(contents)
    if contents.importance:
        yield _importance_picture(contents)
    if contents.calibration:
        yield _calibration_picture(contents)
    yield from _training_pictures(contents)


def scenario_pictures(scenarios: ScenarioFacts) -> Iterator[Picture]:
    """The figures of the section on scenarios."""
    yield from _size_pictures(scenarios)
    yield from _trait_pictures(scenarios)
    yield from _repeat_pictures(scenarios)
    yield from _time_pictures(scenarios)


def _size_pictures(scenarios: ScenarioFacts) -> Iterator[Picture]:
    shares = listing([f"{p.scenario}: {percent(p.share)}" for p in scenarios.portraits])
    yield Picture(
        "shares",
        "How large they are",
        f"Bars of each scenario's share of the requests. {shares}.",
        "Each request counts for every scenario with its probability.",
        figure_shares(scenarios),
        data.share_rows(scenarios),
    )
    yield Picture(
        "confidence",
        "How sure the model is",
        "Histogram of the probability of each request's likeliest scenario, on average "
        f"{percent(scenarios.mean_max_probability)}.",
        "Near 100\u00a0% a request clearly belongs to one scenario; at the dotted line to all alike.",
        figure_confidence(scenarios),
        data.confidence_rows(scenarios),
    )


def _trait_pictures(scenarios: ScenarioFacts) -> Iterator[Picture]:
    if scenarios.differences:
        traits = ", ".join(sentences.trait_name(row.trait) for row in scenarios.differences[:3])
        yield Picture(
            "differences",
            "What sets them apart",
            f"Dots with intervals, a row per feature and a dot per scenario; the largest differences are in {traits}.",
            "Right of the line: more than in the whole log. “clicked” speaks of the items that were clicked, all else "
            f"of the requests. {BARS}",
            figure_differences(scenarios.differences),
            data.difference_rows(scenarios.differences),
        )
    if scenarios.request_map is not None:
        yield Picture(
            "map",
            "A map of requests",
            f"{len(scenarios.request_map.requests)} dots, one per request, in their scenario's colour and shape; "
            "prototypes are large and open.",
            captions.map_caption(scenarios.request_map),
            figure_map(scenarios.request_map, len(scenarios.portraits)),
            data.map_rows(scenarios.request_map),
            "Hover over one to see what it was.",
        )


def _repeat_pictures(scenarios: ScenarioFacts) -> Iterator[Picture]:
    if any(portrait.repeat_probability is not None for portrait in scenarios.portraits):
        yield Picture(
            "repeat-intention",
            "How often they go back",
            "Dots per scenario: the model's repeat intention, and the observed share of repeats among clicks.",
            "The model can shift its own p_r without changing a prediction; trust it where what people did has the "
            f"same order. {BARS}",
            figure_repeat_intention(scenarios.portraits),
            data.portrait_rows(
                scenarios.portraits, "repeat_intention", "repeat_probability", "repeat_share_of_positives"
            ),
        )
    yield Picture(
        "click-rates",
        "How they click",
        "Dots with intervals per scenario: the share clicked of repeats, and of new items.",
        BARS,
        figure_click_rates(scenarios.portraits),
        data.portrait_rows(scenarios.portraits, "click_rate_on_repeats", "click_rate_on_new"),
    )


def _time_pictures(scenarios: ScenarioFacts) -> Iterator[Picture]:
    over_time = {"by-date": ("Over time", scenarios.by_date), "by-hour": ("Through the day", scenarios.by_hour)}
    for name, (title, shares) in over_time.items():
        if shares is not None and len(shares.spans) > 1:
            begins = (
                " Right of the dotted line is the test period, left of it validation." if shares.test_begins else ""
            )
            yield Picture(
                name,
                title,
                f"A line per scenario over {len(shares.spans)} {shares.unit}s: its share of the requests.",
                f"Share of each scenario among the requests of the {shares.unit}.{begins} {BARS}",
                figure_over_time(shares),
                data.time_rows(shares),
            )


def _auc_picture(contents: Contents) -> Picture:
    assert contents.comparison is not None
    best = max(contents.comparison.models, key=lambda row: row.auc.mean)
    return Picture(
        "auc",
        "AUC of each model",
        f"Dots with intervals, a row per model; the highest is {best.name} with {best.auc.mean:.4f}.",
        "Bars are 95\u00a0% intervals of each model alone. Two models whose bars overlap can still differ clearly, as "
        "both were measured on the same users: the table's paired difference is what counts.",
        figure_auc(contents.comparison.models),
        data.auc_rows(contents.comparison.models),
    )


def _gains_picture(contents: Contents) -> Picture:
    assert contents.gains is not None
    whole = contents.gains.rows[0]
    return Picture(
        "gains",
        f"Where it gains over “{contents.gains.base}”",
        f"Dots with intervals for all impressions and per scenario: AUC and logloss of this run minus those of "
        f"{contents.gains.base}; on all impressions {signed(whole.auc.value)} AUC.",
        "This run against the base model's run of the same seed, on the test period; an impression counts for its "
        "request's likeliest scenario. Right of the line the AUC is better, left of it the logloss. Bars are "
        "95\u00a0% intervals, paired over users.",
        figure_gains(contents.gains),
        data.gain_rows(contents.gains),
    )


def _importance_picture(contents: Contents) -> Picture:
    return Picture(
        "importance",
        "What the model relies on",
        "Dots with intervals, a row per feature, for all requests and for each scenario: AUC lost when the feature is "
        f"permuted. The largest: {', '.join(map(captions.importance_name, contents.importance[:3]))}.",
        captions.importance_caption(contents.importance, IMPORTANT),
        figure_importance(contents.importance[:IMPORTANT]),
        data.importance_rows(contents.importance),
    )


def _calibration_picture(contents: Contents) -> Picture:
    return Picture(
        "calibration",
        "Predicted and observed click rates",
        "Dots of observed against predicted click rate; on the dotted diagonal both are equal.",
        "Each dot is a bin of equally many impressions. Above the diagonal the model promises too little, "
        "below too much.",
        figure_calibration(contents.calibration),
        data.calibration_rows(contents.calibration),
    )


def _training_pictures(contents: Contents) -> Iterator[Picture]:
    curves = contents.curves
    if curves.validation_auc:
        yield Picture(
            "validation",
            "AUC on validation",
            f"A line over {len(curves.validation_auc)} validations.",
            "The star marks the weights that were kept.",
            figure_validation(curves),
            data.validation_rows(curves),
        )
    if contents.scenarios is not None and curves.health:
        yield Picture(
            "health",
            "Health of the scenarios",
            "Lines of the mean confidence and of each scenario's share during training.",
            "Confidence on the dotted line means melted scenarios; a share near zero a dead one.",
            figure_health(curves, len(contents.scenarios.portraits)),
            data.curve_rows(curves.health),
        )
    if curves.losses:
        yield Picture(
            "losses",
            "Terms of the loss",
            f"A line for each of {', '.join(curves.losses)}.",
            "Single batches, so the lines are ragged; each term has its own scale.",
            figure_losses(curves),
            data.curve_rows(curves.losses),
        )
