"""The report as Markdown, with its figures as pictures beside it: to be read where a repository's docs are read."""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from musenet.markdown import markdown_table
from musenet.reporting.pages.document import Document, environment, template_names
from musenet.reporting.words.tables import Cell, Table

_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render_markdown(document: Document, folder: str, drawn: Collection[str]) -> str:
    """The page as Markdown (GitHub's kind, for its tables).

    Args:
        document: what to show.
        folder: where the figures lie, seen from the page.
        drawn: names of the figures that lie there as PNG; of the others the page links the numbers alone.
    """
    from markupsafe import Markup

    def escaped(value: Any) -> Markup:
        return value if isinstance(value, Markup) else Markup(escape(str(value)))

    text = (
        environment(finalize=escaped)
        .get_template("report.md")
        .render(
            **template_names(document),
            drawn=drawn,
            grid=lambda table: Markup(grid(table)),
            link=lambda name, ending: Markup(quote(f"{folder}/{name}.{ending}")),
            note=Markup(document.note.strip()),
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escape(text: str) -> str:
    """Text as Markdown shows it literally, on one line.

    >>> escape("a_b | <c>")
    'a\\\\_b \\\\| &lt;c&gt;'
    """
    line = _SPECIAL.sub(r"\\\1", re.sub(r"[ \t\r\n]+", " ", text)).translate(_ENTITIES)
    # What would begin a list at the start of a line.
    return re.sub(r"^( ?\d*)(?=[-+]( |$)|--|(?<=\d)[.)]( |$))", r"\1\\", line)


def grid(table: Table) -> str:
    """A table's heads and rows; small print stands on a line of its own in the cell, rows that stand out are bold."""
    heads = [escape(head) for head in table.heads]
    numbers = [cell.is_number for cell in table.rows[0]] if table.rows else [False] * len(heads)
    right = [place > 0 and number for place, number in enumerate(numbers)]
    rows = [[_cell(cell, strong=place in table.strong) for cell in row] for place, row in enumerate(table.rows)]
    return markdown_table([heads, *rows], right)


def _cell(cell: Cell, *, strong: bool) -> str:
    text = f"**{escape(cell.text)}**" if strong else escape(cell.text)
    return f"{text}<br>{escape(cell.detail)}" if cell.detail else text
