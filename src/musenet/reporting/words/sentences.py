"""The report's sentences, each made from data."""

import math
from collections.abc import Sequence

from musenet.evaluation.intervals import Interval
from musenet.models.options import Role
from musenet.portraits.contrasts import EARLIER_EVENTS, Contrast, ValueContrast, size_of
from musenet.portraits.differences import Trait, contrasts
from musenet.portraits.portraits import Portrait
from musenet.portraits.situations import Situation
from musenet.portraits.words import SPACE, field_words, listing, number, percent, signed
from musenet.reporting.contents import Contents, Curves, ScenarioFacts
from musenet.studies.comparison.results import Comparison
from musenet.studies.comparison.verdict import TITLES

SOFT_BELOW = 0.8
MELTED_BELOW = 1.1
"""Times 1/K, as in the model's own signs of health."""
ONE_TAKES_ALL_BELOW = 0.2
"""Times log K, as in the model's own signs of health."""
DEAD_BELOW = 0.2
"""Times 1/K: under 5 % of the requests with four scenarios."""
UNSTEADY_BELOW = 0.5
CLEAR_TRAITS = 2
CLEAR_SIZE = 0.15
"""Standard deviations: less is not worth a clause."""

SECTIONS = {
    "learned": "What was learned",
    "scenarios": "The scenarios",
    "evidence": "The evidence",
    "predictions": "How good the predictions are",
    "making": "How it was made",
}
MIND = "Mind:"
LAST_VALIDATION = "At the last validation:"
HARD = "Each request belongs wholly to one scenario (hard assignment)."
NO_SCENARIOS = "This model has no scenarios, or a single one: there is nothing to tell apart."
PORTRAITS_NOTE = (
    "sd: standard deviations among all requests (or all clicks). Scenarios bear the numbers that musenet scenarios "
    "writes."
)
NUMBERS = "The numbers behind it (CSV)."
NOT_DRAWN = (
    "The figures are left out, as drawing them takes Chromium or Chrome; each is told in words and links the numbers "
    "behind it."
)
AUC_NOTE = "AUC is the share of such pairs that are in the right order."

_GIVEN = {
    "uniform": "every request is given to all scenarios alike (a control: an ensemble)",
    "permuted": "requests are given one another's scenarios when scored (a control)",
    "predefined": "scenarios come from columns of the log and were not learned (a control)",
    "true": "scenarios are the log's true ones, which no real log has (a diagnostic)",
}


def trait_name(trait: Trait | Contrast) -> str:
    """A trait in short: `days ahead`, `device = phone`, `clicked: stars = 5`."""
    value = getattr(trait, "value", None)
    name = field_words(trait.field) + ("" if value is None else f" = {value}")
    return name if trait.of == "requests" else f"clicked: {name}"


def sentence(text: str) -> str:
    """Begun with a capital and ended with one full stop.

    >>> sentence("negatives are items shown and not clicked")
    'Negatives are items shown and not clicked.'
    """
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def log_sentence(contents: Contents) -> str:
    """What the log is, in one sentence."""
    whole = contents.log.whole
    repeats = "" if math.isnan(whole.repeat_share) else f", and {percent(whole.repeat_share)} of those clicks repeat"
    return (
        f"From {whole.first} to {whole.last}, {number(whole.users)} users were shown {number(whole.impressions)} items "
        f"in {number(whole.requests)} requests; {percent(whole.click_rate)} were clicked{repeats}"
        f"{' something the user had before' if repeats else ''}."
    )


def model_sentence(contents: Contents) -> str:
    """Which model the page is about."""
    return f"The model shown is “{contents.model}”, seed {contents.seed}."


def verdict_title(comparison: Comparison | None) -> str:
    """The headline's few words."""
    return TITLES["unknown"] if comparison is None else comparison.verdict.title


def verdict_in_pairs(comparison: Comparison | None) -> str | None:
    """The headline's difference for people who know no AUC; None where nothing is known."""
    if comparison is None or comparison.verdict.rival is None or comparison.verdict.outcome == "unknown":
        return None
    verdict, rival = comparison.verdict, comparison.verdict.rival
    pairs = abs(1000 * rival.difference.value)
    count = f"{number(pairs, 0 if pairs >= 9.95 else 1)} {'more' if rival.difference.value >= 0 else 'fewer'}"
    ending = ""
    if verdict.outcome == "no gain":
        beaten = rival.model not in verdict.not_beaten
        others = listing([f"“{name}”" for name in verdict.not_beaten])
        ending = f", but not surely more than {others}" if beaten else ", which may be chance"
    return (
        f"Of 1,000 pairs of a clicked and an unclicked item, the model with learned scenarios, “{verdict.reference}”, "
        f"puts about {count} in the right order than the best one without, “{rival.model}”{ending}."
    )


def verdict_sentence(comparison: Comparison | None) -> str:
    """Whether scenarios paid, in the words of the comparison."""
    if comparison is None:
        return (
            "This page shows one run alone; whether its scenarios are worth anything only a comparison with models "
            "without them can tell (musenet compare)."
        )
    if comparison.verdict.rival is None:
        reference = comparison.verdict.reference
        return f"The comparison holds no model without learned scenarios to set “{reference}” against."
    return comparison.verdict.sentence


def verdict_caution(comparison: Comparison | None) -> str | None:
    """What a gain does not show yet."""
    if comparison is None or comparison.verdict.outcome != "gain":
        return None
    if comparison.verdict.caution is not None:
        return comparison.verdict.caution
    if len(comparison.seeds) == 1:
        return "One seed alone: the interval does not hold what another seed would change."
    return None


def scenario_sentence(portrait: Portrait, scenarios: ScenarioFacts) -> str:
    """One scenario: its size, the situation that is typical of it, what is clicked, how people repeat in it."""
    found = [contrast for contrast in contrasts(portrait) if abs(size_of(contrast)) >= CLEAR_SIZE]
    apart = [clause(contrast) for contrast in found if contrast.of == "requests"][:CLEAR_TRAITS]
    choice = [clause(contrast) for contrast in found if contrast.of == "clicked"][:CLEAR_TRAITS]
    situation = scenarios.situations[portrait.scenario]
    parts = []
    if situation is not None:
        parts.append(situation_clause(situation))
    if apart:
        parts.append(f"its requests have {listing(apart)}")
    if choice:
        parts.append(f"its clicks go to items with {listing(choice)}")
    if not parts:
        parts.append("nothing known of its requests or clicks sets it clearly apart")
    parts += _repeat_clauses(portrait, scenarios)
    called = f"Scenario {portrait.scenario} (“{portrait.name}”)"
    return f"{called} holds {percent(portrait.share)} of the requests: {'; '.join(parts)}."


def situation_clause(situation: Situation) -> str:
    """`typical is days ahead above 6 with family = true (76 % of such requests belong here, 25 % of all)`."""
    first, *others = situation.conditions
    together = f"{first} with {listing(others)}" if others else first
    shares = f"{percent(situation.share)} of such requests belong here, {percent(situation.overall)} of all"
    return f"typical is {together} ({shares})"


def clause(contrast: Contrast) -> str:
    """A contrast in words: `higher days ahead (+0.9 sd)`, `same day = 1 (84 % of requests, 31 % overall)`."""
    name = field_words(contrast.field)
    if isinstance(contrast, ValueContrast):
        whole = "requests" if contrast.of == "requests" else "clicks"
        shares = f"{percent(contrast.share)} of its {whole}, {percent(contrast.overall)} overall"
        return f"{name}{SPACE}={SPACE}{contrast.value} ({shares})"
    direction = "higher" if contrast.difference > 0 else "lower"
    if contrast.field == EARLIER_EVENTS:
        direction = "more" if contrast.difference > 0 else "fewer"
    return f"{direction} {name} ({signed(contrast.difference, 1)}{SPACE}sd)"


def repeat_rank(portrait: Portrait, portraits: Sequence[Portrait]) -> str:
    """Where its repeat share stands, said only where intervals of neighbours do not overlap."""
    own = portrait.repeat_share_of_positives
    others = [other.repeat_share_of_positives for other in portraits if other is not portrait]
    if others and all(own.low > other.high for other in others):
        return ", the most of all"
    if others and all(own.high < other.low for other in others):
        return ", the least of all"
    return ""


def warnings(scenarios: ScenarioFacts | None) -> list[str]:
    """What a reader must know before believing the scenarios, in plain words."""
    if scenarios is None:
        return []
    if scenarios.assignment in _GIVEN:
        return [f"These scenarios were not found by the model: {_GIVEN[scenarios.assignment]}."]
    found = [*_confidence_warnings(scenarios), *_use_warnings(scenarios)]
    if scenarios.agreement is not None and scenarios.agreement < UNSTEADY_BELOW:
        found.append(
            f"The scenarios are unsteady: trained again with another seed, the requests are grouped differently "
            f"(agreement {number(scenarios.agreement, 2)}, where 1 is the same and 0 is chance)."
        )
    return found


def recovery_sentence(scenarios: ScenarioFacts) -> str | None:
    """How near the scenarios are to the true ones, where the log tells."""
    if scenarios.recovery is None:
        return None
    return (
        f"This log knows its true scenarios: those found agree with them by an adjusted Rand index of "
        f"{number(scenarios.recovery['ari'], 2)} (1 is the same grouping, 0 is chance)."
    )


def agreement_sentence(scenarios: ScenarioFacts) -> str | None:
    """How alike the scenarios of another seed are, where a comparison says it and it is no warning."""
    if scenarios.agreement is None or scenarios.assignment in _GIVEN or scenarios.agreement < UNSTEADY_BELOW:
        return None
    return (
        f"Trained again with another seed, requests are grouped much the same: agreement "
        f"{number(scenarios.agreement, 2)} (1 is the same grouping, 0 is chance)."
    )


def auc_sentence(auc: Interval) -> str:
    """What an AUC means."""
    return (
        f"Of 100 pairs of a clicked and an unclicked item, the model ranks the clicked one higher in about "
        f"{number(100 * auc.value, 0)}."
    )


def calibration_sentence(ratio: Interval) -> str:
    """Whether the model predicts too many or too few clicks, on the whole."""
    if not all(map(math.isfinite, (ratio.value, ratio.low, ratio.high))):
        return "How predicted and observed clicks compare could not be measured."
    distance = percent(abs(ratio.value - 1), 1)
    bounds = (
        f"predicted over observed {number(ratio.value, 3)}, interval {number(ratio.low, 3)} to {number(ratio.high, 3)}"
    )
    if ratio.low <= 1 <= ratio.high:
        return f"On the whole the model predicts about as many clicks as there were ({bounds})."
    return f"On the whole the model predicts {distance} too {'many' if ratio.value > 1 else 'few'} clicks ({bounds})."


def training_sentence(curves: Curves) -> str:
    """How training ended and what was kept."""
    ended = f"after all {curves.stopped}" if curves.stopped.startswith("planned ") else f"early ({curves.stopped})"
    if curves.best_step is None:
        return f"Training ended {ended}."
    return f"Training ended {ended}; the weights of step {number(curves.best_step)} were kept, the best on validation."


def _repeat_clauses(portrait: Portrait, scenarios: ScenarioFacts) -> list[str]:
    share = portrait.repeat_share_of_positives.value
    if not math.isfinite(share):
        return []
    rank = repeat_rank(portrait, scenarios.portraits)
    parts = [f"{percent(share)} of its clicks go back to something the user had before{rank}"]
    known, new = portrait.click_rate_on_repeats, portrait.click_rate_on_new
    if all(map(math.isfinite, (known.value, new.value))) and new.value > 0:
        rates = f"{percent(known.value)} against {percent(new.value)}"
        if known.low <= new.high and new.low <= known.high:
            parts.append(f"known items are clicked about as often as new ones ({rates})")
        else:
            times = number(known.value / new.value, 1)
            parts.append(f"a known item is clicked {times} times as often as a new one ({rates})")
    return parts


def _confidence_warnings(scenarios: ScenarioFacts) -> list[str]:
    count, confidence = len(scenarios.portraits), scenarios.mean_max_probability
    if confidence < MELTED_BELOW / count:
        return [
            f"The scenarios have melted: every request belongs to all {count} about equally (the most probable one has "
            f"{percent(confidence)} on average, {percent(1 / count)} would be no knowledge at all). What follows "
            "describes noise."
        ]
    if confidence < SOFT_BELOW:
        return [
            f"The scenarios are soft: on average the most probable one holds only {percent(confidence)} of a request, "
            "so most requests belong to several scenarios, and the differences below are those of blends."
        ]
    return []


def _use_warnings(scenarios: ScenarioFacts) -> list[str]:
    count = len(scenarios.portraits)
    found = []
    if scenarios.entropy < ONE_TAKES_ALL_BELOW * math.log(count):
        largest = max(scenarios.portraits, key=lambda portrait: portrait.share)
        found.append(f"Scenario {largest.scenario} takes nearly everything: {percent(largest.share)} of the requests.")
    dead = [portrait for portrait in scenarios.portraits if portrait.share < DEAD_BELOW / count]
    if dead:
        which = listing([f"{portrait.scenario} ({percent(portrait.share)})" for portrait in dead])
        found.append(
            f"Scenario{'s' if len(dead) > 1 else ''} {which} {'are' if len(dead) > 1 else 'is'} dead: so few requests "
            "belong there that its figures mean little."
        )
    return found


ROLE_NAMES: dict[Role, str] = {
    "musenet": "learned scenarios",
    "control": "control",
    "baseline": "other model",
    "as published": "other model, as published",
    "diagnostic": "told the true scenario",
}
