"""Tables as Markdown."""

from collections.abc import Sequence


def markdown_table(lines: Sequence[Sequence[str]], right: Sequence[bool] | None = None) -> str:
    """Lines of cells as a table, the first being its heads.

    Args:
        lines: of equally many cells, each as Markdown; see `cell`.
        right: which columns are set to the right; all but the first if None.
    """
    heads = lines[0]
    sides = [place > 0 for place in range(len(heads))] if right is None else right
    rule = ["---:" if side else "---" for side in sides]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *lines[1:]))


def cell(text: str) -> str:
    """A text as a cell may hold it."""
    return text.replace("|", "\\|")
