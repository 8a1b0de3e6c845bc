"""What tests read of a page, and of what is told while it is made."""

import re
from html.parser import HTMLParser
from typing import Any

from musenet.progress import Listener


class Heard(Listener):
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Page(HTMLParser):
    """What a test asks of a page: attributes that load or link, tables by caption, visible text, headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tables: dict[str, list[list[dict[str, Any]]]] = {}
        self.text = ""
        self.headings: list[int] = []
        self.tags: set[str] = set()
        self.unnamed_plots = 0
        self._silent = 0
        self._rows: list[list[dict[str, Any]]] = []
        self._caption: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset", "action")]
        self._silent += tag in ("script", "style")
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if attributes.get("class") == "plot" and not attributes.get("aria-label"):
            self.unnamed_plots += 1
        if tag == "table":
            self._rows = []
        if tag == "caption":
            self._caption = ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            value = attributes.get("data-value")
            self._rows[-1].append({"text": "", "value": None if value is None else float(value)})

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")
        if tag == "caption" and self._caption is not None:
            self.tables[self._caption] = self._rows
            self._caption = None

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self.text += data
        if self._caption is not None:
            self._caption += data
        elif self._rows and self._rows[-1]:
            self._rows[-1][-1]["text"] += data.strip()

    def row(self, caption: str, head: str) -> list[dict[str, Any]]:
        """The row whose first cell begins so, its cells by position."""
        return next(row for row in self.tables[caption] if row and row[0]["text"].startswith(head))
