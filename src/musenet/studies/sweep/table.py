"""A sweep as people read it: on a terminal and as Markdown."""

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from musenet.markdown import markdown_table
from musenet.results import show as show_result
from musenet.studies.sweep.sweep import Sweep, SweepLine, SweepPoint

_HEADS = ("AUC", "ΔAUC to configured", "logloss")


def to_markdown(sweep: Sweep) -> str:
    """A table per parameter, and below what the figures are."""
    parts = []
    for parameter in dict.fromkeys(line.parameter for line in sweep.lines):
        of_parameter = [line for line in sweep.lines if line.parameter == parameter]
        cells = [[line.model, *_cells(line, point)] for line in of_parameter for point in line.points]
        parts.append(markdown_table([["model", parameter, *_HEADS], *cells], [False, False, *[True] * len(_HEADS)]))
    return "\n\n".join([*parts, _footnote(sweep)]) + "\n"


@show_result.register
def show(sweep: Sweep, console: Console) -> None:
    """Print a table per line."""
    for line in sweep.lines:
        console.print(f"{line.model}, {line.parameter}")
        table = Table(box=SIMPLE, show_edge=False)
        for place, head in enumerate(["value", *_HEADS]):
            table.add_column(head, justify="right" if place else "left", no_wrap=True)
        for point in line.points:
            value, *figures = _cells(line, point)
            table.add_row(value, *(text.replace(" (", "\n(") for text in figures))  # an interval below its value
        console.print(table)
        console.print()
    console.print(_footnote(sweep))


def _cells(line: SweepLine, point: SweepPoint) -> list[str]:
    auc, gained = point.auc, point.difference_to_configured
    is_configured = point.value == line.configured
    return [
        f"{point.value} (configured)" if is_configured else str(point.value),
        f"{auc.mean:.4f} ({auc.low:.4f} … {auc.high:.4f})",
        "–" if is_configured else f"{gained.value:+.4f} ({gained.low:+.4f} … {gained.high:+.4f})",
        f"{point.logloss.mean:.4f}",
    ]


def _footnote(sweep: Sweep) -> str:
    return (
        f"{sweep.data}: {sweep.impressions:,} impressions of {sweep.users:,} users, split {sweep.split}; means of "
        f"{len(sweep.seeds)} seed(s), 95 % intervals over users and seeds, paired. {sweep.protocol}."
    )
