"""The comparison as people read it: on a terminal and as Markdown."""

import math
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from musenet.evaluation.intervals import Interval
from musenet.markdown import cell, markdown_table
from musenet.results import show as show_result
from musenet.studies.comparison.results import Comparison, DifferenceTo, Row, TransferLoss

_MISSING = "–"
_LONGEST_WORD = 14
"""Of names: longer ones are broken, so that figures find their place."""
_HOW_GOOD = ("model", "AUC", "GAUC", "NDCG", "logloss", "pred/obs", "valid\nAUC")
_HOW_DIFFERENT = ("ΔAUC", "p (Holm)", "RelaImpr")
_HOW_LOST = ("AUC where\ntrained", "loss")


def columns(comparison: Comparison) -> list[str]:
    """The table's heads; how well scenarios were recovered only where it is known."""
    heads = ["model", "AUC"]
    if comparison.where_trained is not None:
        heads += ["AUC where\ntrained", "loss", f"loss over\n{comparison.reference}"]
    heads += ["GAUC", "NDCG", "logloss", f"RelaImpr to\n{comparison.base}"]
    heads += [f"ΔAUC to\n{comparison.reference}", "p (Holm)", "pred/obs", "valid\nAUC"]
    if _recovered(comparison):
        heads += ["ARI"]
    if _tuned(comparison):
        heads += ["tuned by\n(± seeds)"]
    return [*heads, "seeds\nagree", "parameters*", "s/epoch"]


def cells(row: Row, comparison: Comparison) -> list[str]:
    """One row as text, in the order of `columns`."""
    relative, to_reference = row.rela_impr, row.difference_to
    is_reference = row.name == comparison.reference
    texts = [row.name, _figure(row.auc.interval)]
    if comparison.where_trained is not None:
        texts += _losses(row, is_reference)
    texts += [
        _number(row.gauc.mean),
        _number(row.ndcg.mean),
        _number(row.logloss.mean),
        _MISSING if row.name == comparison.base else _bounds(relative, percent=True),
        _MISSING if is_reference else _bounds(to_reference),
        _MISSING if is_reference else _p_value(to_reference.p_holm),
        _number(row.calibration_ratio.mean, 3),
        _number(row.valid_auc),
    ]
    if _recovered(comparison):
        texts.append(_MISSING if row.recovery is None else f"{row.recovery['ari']:.2f}")
    if _tuned(comparison):
        margin, spread = row.tuning_margin, row.tuning_spread
        texts.append(_MISSING if margin is None else f"{margin:.4f}" + ("" if spread is None else f" ± {spread:.4f}"))
    texts.append(_MISSING if row.agreement is None else f"{row.agreement:.2f}")
    return [*texts, f"{row.parameters_outside_embedding:,}", f"{row.seconds_per_epoch:,.1f}"]


def footnote(comparison: Comparison) -> str:
    """What the intervals are, and the protocol."""
    return (
        f"{comparison.data}: {comparison.impressions:,} test impressions of {comparison.users:,} users; means of "
        f"{seeds_of(comparison)}, 95 % intervals over users and seeds, paired. {comparison.protocol}. "
        f"{_note_on_losses(comparison)}"
        f"{_note_on_tuning(comparison)}"
        f"NDCG@{comparison.ndcg_at} over requests. p-values corrected by Holm's method. "
        "*without the embedding table. seeds agree: ARI between two seeds' scenarios."
    )


def show(comparison: Comparison, console: Console) -> None:
    """Print tables that fit 80 columns: how good models are, what they lose, how they differ, what else they are."""
    heads, rows = columns(comparison), [cells(row, comparison) for row in comparison.models]
    differing = [place for place, head in enumerate(heads) if head.startswith(_HOW_DIFFERENT)]
    lost = [place for place, head in enumerate(heads) if head.startswith(_HOW_LOST)]
    good = [place for place, head in enumerate(heads) if head in _HOW_GOOD]
    rest = [place for place in range(1, len(heads)) if place not in (*good, *differing, *lost)]
    for places in (good, [0, *lost], [0, *differing], [0, *rest]):
        if len(places) == 1:
            continue
        table = _narrow_table()
        # Names wrap between words; run folders, which are one long word, are folded: they may begin alike.
        width = min(_LONGEST_WORD, max((len(word) for row in rows for word in row[0].split()), default=0))
        table.add_column(heads[0], overflow="fold", min_width=width)
        for place in places[1:]:
            table.add_column(heads[place], justify="right", no_wrap=True)
        for row in rows:
            # An interval stands below its value.
            table.add_row(row[0], *(row[place].replace(" (", "\n(") for place in places[1:]))
        console.print(table)
        console.print()
    if comparison.verdict.headline:
        console.print(comparison.verdict.headline)
    console.print(footnote(comparison))


def show_parts(comparison: Comparison, console: Console) -> None:
    """Print how the reference does against its rivals within parts of the split, if that was measured."""
    if comparison.slices is None:
        return
    table = _narrow_table()
    for place, head in enumerate(_slice_heads(comparison)):
        table.add_column(head, overflow="fold", min_width=0 if place else _LONGEST_WORD)
    for line in _slice_lines(comparison):
        table.add_row(*line)
    console.print(table)


def _narrow_table() -> Table:
    return Table(box=SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True)


@show_result.register
def show_whole(comparison: Comparison, console: Console) -> None:
    """Print the tables, and the parts of the split if they were measured."""
    show(comparison, console)
    show_parts(comparison, console)


def to_markdown(comparison: Comparison) -> str:
    """The table as Markdown; below it verdict, footnote and, if they were measured, the parts of the split."""
    heads = [head.replace("\n", " ") for head in columns(comparison)]
    parts = [
        _markdown([heads, *(cells(row, comparison) for row in comparison.models)]),
        comparison.verdict.headline,
        footnote(comparison).replace("*", "\\*"),
    ]
    if comparison.slices is not None:
        parts.append(_markdown([_slice_heads(comparison), *_slice_lines(comparison)]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(lines: list[list[str]]) -> str:
    return markdown_table([[cell(text) for text in line] for line in lines])


def _rivals(comparison: Comparison) -> list[str]:
    """The rows that the reference is compared with in every part of the split."""
    first = comparison.slices[0].models if comparison.slices else []
    return [row.name for row in first if row.name != comparison.reference]


def _slice_heads(comparison: Comparison) -> list[str]:
    ahead = [f"AUC over {rival}" for rival in _rivals(comparison)]
    return ["part", "impressions", "positives", f"AUC of {comparison.reference}", *ahead]


def _slice_lines(comparison: Comparison) -> list[list[str]]:
    lines = []
    for part in comparison.slices or []:
        rows = {row.name: row for row in part.models}
        cells = [f"{part.slice}: {part.value}", f"{part.impressions:,}", f"{part.positives:,}"]
        cells.append(_number(rows[comparison.reference].auc))
        for rival in _rivals(comparison):
            behind = rows[rival].difference
            cells.append(_MISSING if behind is None else _bounds(Interval(-behind.value, -behind.high, -behind.low)))
        lines.append(cells)
    return lines


def seeds_of(comparison: Comparison) -> str:
    """How many seeds the rows have, in words: the best may have more."""
    counts = sorted({len(row.auc.per_seed) for row in comparison.models} or {len(comparison.seeds)})
    many = " to ".join(str(count) for count in (counts[0], counts[-1])[: len(counts)])
    return f"{many} seed{'' if counts[-1] == 1 else 's'}"


def _recovered(comparison: Comparison) -> bool:
    return any(row.recovery is not None for row in comparison.models)


def _tuned(comparison: Comparison) -> bool:
    return any(row.tuning_margin is not None for row in comparison.models)


def _note_on_tuning(comparison: Comparison) -> str:
    if not _tuned(comparison):
        return ""
    return "tuned by: validation score of the chosen values minus the next ones', ± the standard deviation of seeds. "


def _losses(row: Row, is_reference: bool) -> list[str]:
    if row.auc_where_trained is None or row.loss is None:
        return [_MISSING] * 3
    return [
        _figure(row.auc_where_trained.interval),
        _bounds(row.loss),
        _MISSING if is_reference else _bounds(row.loss.over_reference),
    ]


def _note_on_losses(comparison: Comparison) -> str:
    where = comparison.where_trained
    if where is None:
        return ""
    return (
        f"Trained on {Path(where.dataset).name}, whose test split has {where.impressions:,} impressions of "
        f"{where.users:,} users, {where.users_of_both:,} of them in both splits; loss: AUC there minus AUC here; "
        f"loss over {comparison.reference}: its loss taken off. "
    )


def _number(value: float, digits: int = 4) -> str:
    return _MISSING if math.isnan(value) else f"{value:.{digits}f}"


def _figure(found: Interval) -> str:
    return _MISSING if math.isnan(found.value) else f"{found.value:.4f}{_between(found, '.4f')}"


def _bounds(found: Interval | DifferenceTo | TransferLoss, *, percent: bool = False) -> str:
    form = "+.1%" if percent else "+.4f"
    return _MISSING if math.isnan(found.value) else f"{found.value:{form}}{_between(found, form)}"


def _between(found: Interval | DifferenceTo | TransferLoss, form: str) -> str:
    """The bounds in brackets, unless they cannot be had."""
    return "" if math.isnan(found.low) else f" ({found.low:{form}} … {found.high:{form}})"


def _p_value(p: float) -> str:
    if math.isnan(p):
        return _MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"
