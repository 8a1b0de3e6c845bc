"""The comparison as people read it: on a terminal and as Markdown."""

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from musenet.evaluation.compare import Comparison, Row

_MISSING = "–"
_HOW_GOOD = ("model", "AUC", "GAUC", "logloss", "pred/obs", "valid\nAUC")
_HOW_DIFFERENT = ("ΔAUC", "p-value", "RelaImpr")


def columns(comparison: Comparison) -> list[str]:
    """The table's heads; how well scenarios were recovered only where it is known."""
    heads = ["model", "AUC", "GAUC", "logloss", f"RelaImpr to\n{comparison.base}"]
    heads += [f"ΔAUC to\n{comparison.reference}", "p-value", "pred/obs", "valid\nAUC"]
    if _recovered(comparison):
        heads += ["ARI"]
    return [*heads, "seeds\nagree", "parameters*", "samples/s"]


def cells(row: Row, comparison: Comparison) -> list[str]:
    """One row as text, in the order of `columns`."""
    auc, relative, to_reference = row.metrics["auc"], row.rela_impr, row.difference_to
    is_reference = row.name == comparison.reference
    texts = [
        row.name,
        f"{auc.value:.4f} ({auc.low:.4f} … {auc.high:.4f})",
        f"{row.metrics['gauc'].value:.4f}",
        f"{row.metrics['logloss'].value:.4f}",
        _MISSING if row.name == comparison.base else _bounds(relative.value, relative.low, relative.high, percent=True),
        _MISSING if is_reference else _bounds(to_reference["value"], to_reference["low"], to_reference["high"]),
        _MISSING if is_reference else f"{to_reference['p']:.3f}",
        f"{row.metrics['calibration_ratio'].value:.3f}",
        f"{row.valid_auc:.4f}",
    ]
    if _recovered(comparison):
        texts.append(_MISSING if row.recovery is None else f"{row.recovery['ari']:.2f}")
    texts.append(_MISSING if row.agreement is None else f"{row.agreement:.2f}")
    return [*texts, f"{row.parameters_outside_embedding:,}", f"{row.samples_per_second:,.0f}"]


def footnote(comparison: Comparison) -> str:
    """What the intervals are, and the protocol."""
    return (
        f"{comparison.data}: {comparison.impressions:,} test impressions of {comparison.users:,} users; means of "
        f"{len(comparison.seeds)} seed(s), 95 % intervals over users and seeds, paired. {comparison.protocol}. "
        "*without the embedding table. seeds agree: ARI between two seeds' scenarios."
    )


def show(comparison: Comparison, console: Console) -> None:
    """Print three tables that fit 80 columns: how good the models are, how they differ, and what else they are."""
    heads, rows = columns(comparison), [cells(row, comparison) for row in comparison.models]
    differing = [place for place, head in enumerate(heads) if head.startswith(_HOW_DIFFERENT)]
    good = [place for place, head in enumerate(heads) if head in _HOW_GOOD]
    rest = [place for place in range(1, len(heads)) if place not in (*good, *differing)]
    for places in (good, [0, *differing], [0, *rest]):
        table = Table(box=SIMPLE, show_edge=False)
        for place in places:
            table.add_column(heads[place], justify="left" if place == 0 else "right", no_wrap=place > 0)
        for row in rows:
            # An interval stands below its value.
            table.add_row(*(row[place] if place == 0 else row[place].replace(" (", "\n(") for place in places))
        console.print(table)
        console.print()
    console.print(footnote(comparison), markup=False)


def to_markdown(comparison: Comparison) -> str:
    """The table as Markdown, the footnote below it."""
    heads = columns(comparison)
    lines = [[head.replace("\n", " ") for head in heads], ["---", *["---:"] * (len(heads) - 1)]]
    lines += [cells(row, comparison) for row in comparison.models]
    table = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
    return f"{table}\n\n{footnote(comparison).replace('*', chr(92) + '*')}\n"


def _recovered(comparison: Comparison) -> bool:
    return any(row.recovery is not None for row in comparison.models)


def _bounds(value: float, low: float, high: float, *, percent: bool = False) -> str:
    if percent:
        return f"{value:+.1%} ({low:+.1%} … {high:+.1%})"
    return f"{value:+.4f} ({low:+.4f} … {high:+.4f})"
