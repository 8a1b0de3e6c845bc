"""The report before it has a form: what the HTML page and the Markdown page are both made of."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musenet.errors import RunError
from musenet.reporting.contents import Contents, ScenarioFacts

if TYPE_CHECKING:
    from jinja2 import Environment

    from musenet.reporting.figures.pictures import Picture

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Document:
    """What the report says, its pictures in the page's order, and what somebody learned from it."""

    contents: Contents
    pictures: "list[Picture]"
    note: str = ""
    """Markdown, placed below the headline."""

    @property
    def note_paragraphs(self) -> list[str]:
        """The note's text between blank lines."""
        return [part for part in re.split(r"\n\s*\n", self.note.strip()) if part]


def read_note(file: Path) -> str:
    """The text of a note.

    Raises:
        RunError: if the file cannot be read as text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file} cannot be read ({error}): give a file with the text of what was learned") from error


def template_names(document: Document) -> dict[str, Any]:
    """What a template may say: contents, and the functions and tables that put them into words."""
    from musenet.portraits import words as formats
    from musenet.reporting.words import captions, sentences, tables

    contents = document.contents
    return {
        "contents": contents,
        "document": document,
        "words": sentences,
        "formats": formats,
        "captions": captions,
        "facts": tables.facts(contents.log),
        "tables": _tables(contents),
        "pictures": {picture.name: picture for picture in document.pictures},
    }


def environment(**more: Any) -> "Environment":
    """Jinja as both templates use it: whatever they print is escaped, and what is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **more,
    )


def _tables(contents: Contents) -> dict[str, Any]:
    from musenet.reporting.words import tables

    found: dict[str, Any] = {
        "periods": tables.periods_table(contents.log),
        "metrics": tables.metrics_table(contents),
    }
    if contents.comparison is not None:
        found["comparison"] = tables.comparison_table(contents.comparison)
        found["model_facts"] = tables.model_facts_table(contents.comparison)
    if contents.scenarios is not None:
        found |= scenario_tables(contents.scenarios)
    return found


def scenario_tables(scenarios: ScenarioFacts) -> dict[str, Any]:
    """The tables of the section on scenarios."""
    from musenet.reporting.words import tables

    found = {"scenarios": tables.scenario_table(scenarios)}
    if scenarios.differences:
        found["differences"] = tables.differences_table(scenarios)
    return found
