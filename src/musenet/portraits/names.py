"""Short names of scenarios: made from what sets them apart, carried on by later trainings, or given by people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from musenet.distributed import workers
from musenet.errors import RunError, UserError
from musenet.portraits.contrasts import (
    EARLIER_EVENTS,
    MISSING_VALUE,
    RARE_VALUE,
    Contrast,
    NumericContrast,
    ValueContrast,
    contrasts_of,
    largest_first,
    size_of,
)
from musenet.portraits.words import field_words
from musenet.results import Result
from musenet.runs.run import Run

CLEAR, PARTS, VALUE_LENGTH, NAME_LENGTH = 0.2, 2, 24, 60
"""Standard deviations from which a contrast names a scenario, how many do, and characters of a value and a name."""
LIKE_ALL = "like all requests"


class ScenarioNames(Result):
    """What the scenarios of a run are called."""

    written_by: ClassVar[str] = "`musenet name`"

    weights: str
    """SHA-256 of those that the names were made for."""
    made: list[str]
    """From what sets each scenario apart, or carried on from the run that its training began with."""
    given: dict[int, str] = {}
    """By people."""

    @property
    def names(self) -> list[str]:
        """(K) the names to show, distinct."""
        return distinct([self.given.get(scenario, made) for scenario, made in enumerate(self.made)])


def scenario_names(run: Run) -> list[str]:
    """(K) what the scenarios of a run are called, distinct; empty for a model without scenarios."""
    found = _read(run)
    return [] if found is None else found.names


def keep_names(run: Run, names: Sequence[str]) -> None:
    """Carry names on from the run that a training began with: (K) by the new run's scenarios."""
    found = _read(run)
    if found is not None and len(found.made) == len(names):
        _write(run, found.model_copy(update={"made": list(names)}))


def give_names(run: Run, given: Mapping[int, str]) -> ScenarioNames:
    """Call scenarios so from now on; an empty name takes a given one back.

    Args:
        run: a trained run with scenarios.
        given: by the scenario's number.

    Returns:
        All names of the run.

    Raises:
        RunError: if its model has no scenarios.
        UserError: if there is no such scenario, or a name is too long, is no line of text, or another one's.
    """
    found = _read(run)
    if found is None:
        raise RunError(f"the run {run.path} is of {run.experiment.model.name}, a model without scenarios")
    names = dict(found.given)
    for scenario, name in given.items():
        if not 0 <= scenario < len(found.made):
            raise UserError(f"name: there is no scenario {scenario}: the run has 0 to {len(found.made) - 1}")
        if len(name) > NAME_LENGTH or not name.isprintable():
            raise UserError(f"name: scenario {scenario}: give a name of one line and at most {NAME_LENGTH} characters")
        names[scenario] = name.strip()
    names = {scenario: name for scenario, name in sorted(names.items()) if name}
    called = [names.get(scenario, made) for scenario, made in enumerate(found.made)]
    for name, times in Counter(called).items():
        if times > 1:
            raise UserError(f"name: two scenarios would be called “{name}”: give each a name of its own")
    found = found.model_copy(update={"given": names})
    _write(run, found)
    return found


def made_names(contrasts: Sequence[Sequence[Contrast]]) -> list[str]:
    """A short name for each of K scenarios from what sets it apart, all distinct.

    Args:
        contrasts: (K) of each scenario, in any order.

    >>> price = NumericContrast("price", "requests", 0.9)
    >>> made_names([[price], [NumericContrast("price", "requests", -0.4)], []])
    ['high price', 'low price', 'like all requests']
    """
    words = [_distinct_words(of) for of in contrasts]
    used = [PARTS] * len(words)
    while True:
        parts = [of[:count] for of, count in zip(words, used, strict=True)]
        times = Counter(map(frozenset, parts))  # the same parts in another order would not tell scenarios apart
        longer = [k for k, of in enumerate(parts) if times[frozenset(of)] > 1 and used[k] < len(words[k])]
        if not longer:
            return distinct([", ".join(of) or LIKE_ALL for of in parts])
        for k in longer:
            used[k] += 1


def distinct(names: Sequence[str]) -> list[str]:
    """The same names, those that came before numbered.

    >>> distinct(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    found: list[str] = []
    for name in names:
        place, own = 2, name
        while own in found:
            own, place = f"{name} ({place})", place + 1
        found.append(own)
    return found


def _distinct_words(contrasts: Sequence[Contrast]) -> list[str]:
    """What is clear, largest first, each column once."""
    fields: dict[str, str] = {}
    for contrast in largest_first(contrasts):
        if abs(size_of(contrast)) >= CLEAR:
            fields.setdefault(contrast.field.removesuffix(".missing"), _words(contrast))
    return list(fields.values())


def _words(contrast: Contrast) -> str:
    told = _number_words(contrast) if isinstance(contrast, NumericContrast) else _value_words(contrast)
    return told if contrast.of == "requests" else f"clicks {told}"


def _number_words(contrast: NumericContrast) -> str:
    field, more = contrast.field, contrast.difference > 0
    if field == EARLIER_EVENTS:
        return f"{'many' if more else 'few'} earlier events"
    if field.endswith(".missing"):
        return f"{field_words(field.removesuffix('.missing'))} {'unknown' if more else 'known'}"
    return f"{'high' if more else 'low'} {field_words(field)}"


def _value_words(contrast: ValueContrast) -> str:
    name, value = field_words(contrast.field), contrast.value
    known = {MISSING_VALUE: f"{name} unknown", RARE_VALUE: f"rare {name}", "true": name, "false": f"not {name}"}
    short = value if len(value) <= VALUE_LENGTH else value[: VALUE_LENGTH - 1] + "…"
    return known.get(value, f"{name} {short}")


def _read(run: Run) -> ScenarioNames | None:
    """The run's names, made now if they are of other weights; None for a model without scenarios."""
    file, weights = run.folder.names_file, run.model_checksum
    kept = workers.first_does(lambda: ScenarioNames.read(file) if file.is_file() else None)
    if kept is not None and kept.weights == weights:
        return kept
    predictions = run.predictions("valid")
    if predictions.assignment is None:
        return None
    made = workers.first_does(lambda: made_names(contrasts_of(run.dataset, predictions)))
    given = {} if kept is None else {k: name for k, name in kept.given.items() if k < len(made)}
    found = ScenarioNames(weights=weights, made=made, given=given)
    _write(run, found)
    return found


def _write(run: Run, names: ScenarioNames) -> None:
    if workers.is_first():
        names.write(run.folder.names_file)
