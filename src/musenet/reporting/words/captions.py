"""What stands under the figures of the map, of the importances and of the gains, made from their data."""

from collections.abc import Sequence

from musenet.evaluation.importance import Importance
from musenet.portraits.request_map import CONFIDENT, RequestMap
from musenet.portraits.words import SPACE, field_words, listing, number, percent, signed
from musenet.reporting.gains import Gains

TOGETHER = 0.1
"""Of the map's extent: nearer prototypes cover one another."""


def importance_name(found: Importance) -> str:
    """A group of columns in short: `days ahead`, `repeat features`; `item shown: city` where it is the candidate's."""
    name = field_words(found.name)
    return f"item shown: {name}" if found.side == "candidate" else name


def map_caption(drawn: RequestMap) -> str:
    """How the map was made, and which scenarios it shows by requests that are not confident."""
    whole = (
        f"{number(len(drawn.requests))} requests of the test period, drawn by chance among those whose likeliest "
        f"scenario has more than {percent(CONFIDENT)}. Near ones are alike to the model; distances between far groups "
        "mean little (t-SNE of the metric space)."
    )
    if drawn.prototypes:
        whole += " Large open marks are the prototypes."
        if _spread(drawn.prototypes) < TOGETHER * _spread([(one.x, one.y) for one in drawn.requests]):
            whole += " They fall together here: a request's scenario is decided by its direction from them."
    if not drawn.unsure:
        return whole
    which = listing([str(scenario) for scenario in drawn.unsure])
    many = len(drawn.unsure) > 1
    return (
        f"{whole} Scenario{'s' if many else ''} {which} {'have' if many else 'has'} hardly any such request and "
        f"{'are' if many else 'is'} shown by the most confident ones there are."
    )


def _spread(points: Sequence[tuple[float, float]]) -> float:
    across, down = ([point[axis] for point in points] for axis in (0, 1))
    return max(max(across) - min(across), max(down) - min(down))


def importance_caption(found: Sequence[Importance], shown: int) -> str:
    """What the figure of importances shows, and what is left out of it."""
    whole = (
        "AUC lost on a sample of the test period when what a feature says is dealt out anew among requests (or among "
        "the items shown). Features that say the same stand in for one another and look unimportant. Bars are "
        f"95{SPACE}% intervals over users and permutations."
    )
    unused = [importance_name(one) for one in found if one.overall.low == one.overall.high == 0]
    rest = len(found) - shown
    if unused:
        whole += f" Without any effect: {listing(unused)}."
    elif rest > 0:
        whole += f" {number(rest)} further features matter less."
    return whole


def gains_sentence(gains: Gains) -> str:
    """In which scenarios the run is better than the base model, claimed only where the whole interval lies apart."""
    own = [row for row in gains.rows if row.scenario is not None]
    better = [str(row.scenario) for row in own if row.auc.low > 0]
    worse = [str(row.scenario) for row in own if row.auc.high < 0]
    if own and len(better) == len(own):
        most = max(own, key=lambda row: row.auc.value)
        return (
            f"It ranks better than “{gains.base}” in every scenario, most in scenario {most.scenario} "
            f"({signed(most.auc.value)} AUC)."
        )
    parts = [f"better in {_scenarios(better)}"] if better else []
    parts += [f"worse in {_scenarios(worse)}"] if worse else []
    if not parts:
        return f"In no scenario does its AUC differ clearly from that of “{gains.base}”."
    return f"Against “{gains.base}” it ranks {' and '.join(parts)}; elsewhere the interval holds zero."


def _scenarios(numbers: Sequence[str]) -> str:
    return f"scenario{'s' if len(numbers) > 1 else ''} {listing(numbers)}"
