"""How scenarios moved in a training that began from another run, in the report's words."""

from collections.abc import Iterator

from musenet.portraits.contrasts import size_of
from musenet.portraits.differences import contrasts
from musenet.portraits.moved import Moved, WarmStart
from musenet.portraits.portraits import Portrait
from musenet.portraits.words import listing, number, percent
from musenet.reporting.words.sentences import CLEAR_SIZE, CLEAR_TRAITS, clause

SCALE_TOLD = 0.1
"""Deviations that a scale moves by before it is told."""


def warm_start_sentences(start: WarmStart) -> Iterator[str]:
    """What was kept, which scales moved, and what each scenario was and is."""
    yield (
        f"began from {start.run}: vectors of {number(start.rows_kept)} values are kept, "
        f"{number(start.rows_fresh)} values are new and began fresh"
    )
    for name, by in start.scales.items():
        if by > SCALE_TOLD:
            yield f"the scale of {name} moved by up to {by:.1f} deviations since: values stand elsewhere than learned"
    for moved in start.scenarios:
        yield scenario_moved_sentence(moved)


def scenario_moved_sentence(moved: Moved) -> str:
    """One scenario's share and meaning, before and after."""
    kept = f"{percent(moved.kept)} of its requests stayed"
    if moved.likeliest != moved.scenario:
        kept += f", most are in scenario {moved.likeliest} now"
    was, now = _meaning(moved.before), _meaning(moved.after)
    meaning = f"still {now}" if was == now else f"was {was}; is {now}"
    shares = f"{percent(moved.share_before)} of the requests before, {percent(moved.share)} now"
    return f"scenario {moved.scenario}: {shares}; {kept}; {meaning}"


def _meaning(portrait: Portrait) -> str:
    clear = [contrast for contrast in contrasts(portrait) if abs(size_of(contrast)) >= CLEAR_SIZE][:CLEAR_TRAITS]
    return listing([clause(contrast) for contrast in clear]) if clear else "not clearly set apart"
