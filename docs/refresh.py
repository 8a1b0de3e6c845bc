"""Writes what is generated in the docs, so that it cannot fall behind the code; tests/test_docs.py compares.

- `configs/schema.json`: the JSON schema of a configuration, for editors.
- the tables of `docs/configuration.md`: keys, types and defaults from the option classes. What a key means is written
  by hand in the last column and kept; a new key starts with the description that its class gives.
- the table of `docs/changing-mix.md`: `docs/changing-mix.csv`, which `benchmarks/changing_mix.py` writes.
- the output in `docs/start-here.md`: `docs/demo.json`, the JSON of a demo without its times, as the demo prints it.

    python docs/refresh.py                 all of it
    python docs/refresh.py --demo FILE     docs/demo.json too, from `musenet demo --json` (`-`: standard input)
"""

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from musenet.config.loading import json_schema
from musenet.models.options import PoolingOptions
from musenet.results import show
from musenet.studies.comparison.results import Comparison
from musenet.studies.demo import Demo

ROOT = Path(__file__).resolve().parent.parent
SCHEMA, CONFIGURATION = ROOT / "configs" / "schema.json", ROOT / "docs" / "configuration.md"
START_HERE, DEMO = ROOT / "docs" / "start-here.md", ROOT / "docs" / "demo.json"
CHANGING_MIX, CHANGING_MIX_FIGURES = ROOT / "docs" / "changing-mix.md", ROOT / "docs" / "changing-mix.csv"
DRIFTS = {
    "none": "no drift",
    "shift-0.5": "sudden, shift .5",
    "shift-1": "sudden, shift 1",
    "slow": "slow, shift 1",
    "returning": "returning, shift 1",
    "unseen": "a new scenario, shift .3",
    "taste": "taste, shift .5",
}
SHARED = "PoolingOptions"
"""What all models share."""
OURS = "musenet soft, mix followed"
TIMES = ("samples_per_second", "seconds_per_epoch")
"""Keys of the demo's JSON that are another machine's business."""

_TABLE = re.compile(r"(<!-- options: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_BLOCK = re.compile(r"(<!-- demo:begin -->\n)(.*?)(<!-- demo:end -->)", re.DOTALL)
_MIX_TABLE = re.compile(r"(<!-- changing-mix:begin -->\n)(.*?)(<!-- changing-mix:end -->)", re.DOTALL)
_HEAD = "| key | type | default | meaning |\n|---|---|---|---|\n"


def schema_text() -> str:
    """What `configs/schema.json` holds."""
    return json.dumps(json_schema(), indent=2) + "\n"


def configuration_text(text: str) -> str:
    """`docs/configuration.md` with its tables made anew; meanings that were written by hand are kept."""
    tables = _Tables(text)

    def table(found: re.Match[str]) -> str:
        return found[1] + _HEAD + "".join(tables.rows(found[2], dict(_meanings(found[3])))) + found[4]

    return _TABLE.sub(table, text)


def documented_classes(text: str) -> list[str]:
    """The option classes that have a table in `docs/configuration.md`."""
    return [found[2] for found in _TABLE.finditer(text)]


def changing_mix_text(text: str, figures: str) -> str:
    """`docs/changing-mix.md` with its table made anew from the CSV's text."""
    rows = sorted(csv.DictReader(io.StringIO(figures)), key=lambda row: list(DRIFTS).index(row["drift"]))
    lines = [
        "| drift | model | AUC, week | mix followed minus it | AUC, first day | mix followed minus it | logloss |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        periods = [cell for period in ("week", "first day") for cell in _beside_ours(row, period)]
        model = f"**{row['model']}**" if row["model"] == OURS else row["model"]
        cells = [DRIFTS[row["drift"]], model, *periods, f"{float(row['logloss']):.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return _MIX_TABLE.sub(lambda found: "".join([found[1], "\n".join(lines), "\n", found[3]]), text)


def _beside_ours(row: dict[str, str], period: str) -> tuple[str, str]:
    """AUC in a period, and how far following the mix lies above it."""
    value, low, high = (float(row[f"{period} below ours{end}"]) for end in ("", " low", " high"))
    above = "–" if row["model"] == OURS else f"{value:+.4f} ({low:+.4f} … {high:+.4f})"
    return f"{float(row[period]):.4f}", above


def start_here_text(text: str, demo: dict[str, Any]) -> str:
    """`docs/start-here.md` with its block of output as this demo printed it."""
    return _BLOCK.sub(lambda found: f"{found[1]}```text\n{demo_text(demo)}```\n{found[3]}", text)


def shown_block(text: str) -> str:
    """What stands between the page's markers."""
    found = _BLOCK.search(text)
    assert found is not None, "docs/start-here.md has lost its markers"
    return found[2]


def demo_text(demo: dict[str, Any]) -> str:
    """What `musenet demo` printed, times elided, from its JSON."""
    printed = io.StringIO()
    console = Console(file=printed, width=80, highlight=False)
    show(Demo.model_validate(demo), console)
    lines = [re.sub(r"nan$", "  …", line.rstrip()) for line in printed.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def without_times(content: Any) -> Any:
    """The same JSON, what depends on the machine's speed left out."""
    if isinstance(content, dict):
        return {key: None if key in TIMES else without_times(value) for key, value in content.items()}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def comparison_of(content: dict[str, Any]) -> Comparison:
    """The comparison that `Comparison.to_json` gave; what depended on the machine's speed is not a number."""
    return Comparison.model_validate(content)


def _meanings(table: str) -> Iterator[tuple[str, str]]:
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 4 and cells[0].startswith("`"):
            yield cells[0].strip("`"), cells[3]


class _Tables:
    """Turns option classes into tables whose types link to the tables of other classes.

    Args:
        text: the Markdown, for its headings.
    """

    def __init__(self, text: str) -> None:
        schema = json_schema()
        shared = {SHARED: PoolingOptions.model_json_schema()}
        self.classes: dict[str, dict[str, Any]] = schema["$defs"] | {"Experiment": schema} | shared
        self.links: dict[str, str] = {}
        heading = ""
        for line in text.splitlines():
            if line.startswith("#"):
                heading = line.lstrip("# ")
            elif found := re.match(r"<!-- options: (\w+) -->", line):
                self.links[found[1]] = f"[{heading.replace('`', '')}](#{slug(heading)})"

    def rows(self, name: str, meanings: dict[str, str]) -> Iterator[str]:
        """A class's keys in order; of a model, those that it does not have as all do."""
        required = self.classes[name].get("required", [])
        common = self.classes[SHARED]["properties"]
        of_model = name != SHARED and "embedding" in self.classes[name]["properties"]
        for key, value in self.classes[name]["properties"].items():
            if of_model and (key == "name" or self._is_as(value, common.get(key))):
                continue
            default = "required" if key in required else _default(value)
            meaning = meanings.get(key) or value.get("description", "")
            yield f"| `{key}` | {self.type(value)} | {default} | {meaning} |\n"
        lacking = [f"`{key}`" for key in common if of_model and key not in self.classes[name]["properties"]]
        if lacking:
            yield f"| without | | | {', '.join(lacking)} |\n"

    def _is_as(self, value: dict[str, Any], other: dict[str, Any] | None) -> bool:
        return other is not None and (self.type(value), _default(value)) == (self.type(other), _default(other))

    def type(self, value: dict[str, Any]) -> str:
        """A JSON schema in words."""
        if "$ref" in value:
            return self.links[value["$ref"].rsplit("/", 1)[-1]]
        members = [member for member in value.get("anyOf", value.get("oneOf", [])) if member.get("type") != "null"]
        if special := _special(value, members):
            return special
        if members:
            return " or ".join(dict.fromkeys(self.type(member) for member in members))
        if choices := [value["const"]] if "const" in value else value.get("enum", []):
            return ", ".join(f"`{json.dumps(choice).strip(chr(34))}`" for choice in choices)
        value = value | {"items": value["prefixItems"][0]} if "prefixItems" in value else value
        for part, words in (("items", "list of"), ("additionalProperties", "by name:")):
            if isinstance(value.get(part), dict):
                return f"{words} {self.type(value[part])}"
        return _PLAIN[value.get("format", value.get("type", "any"))] + _bounds(value)


_PLAIN = {
    "any": "values",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true`, `false`",
    "string": "text",
    "date-time": "date or time",
}


def _special(value: dict[str, Any], members: list[dict[str, Any]]) -> str | None:
    """What has a name of its own."""
    if [member.get("type") for member in members] == ["number", "string"] and "const" not in members[1]:
        return "duration"
    return "list of columns, as below" if "additionalProperties" in str(value.get("items")) else None


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip("# ").lower()).replace(" ", "-")


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if isinstance(default, dict) or "$ref" in value:
        return "its own"
    return "–" if default is None else f"`{json.dumps(default)}`".replace('"', "")


def _bounds(value: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return f" {', '.join(found)}" if found else ""


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", metavar="FILE", help="the output of `musenet demo --json`; `-`: standard input")
    chosen = parser.parse_args()
    if chosen.demo is not None:
        text = sys.stdin.read() if chosen.demo == "-" else Path(chosen.demo).read_text(encoding="utf-8")
        last = json.loads(text.strip().splitlines()[-1])
        DEMO.write_text(json.dumps(without_times(last), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    CONFIGURATION.write_text(configuration_text(CONFIGURATION.read_text(encoding="utf-8")), encoding="utf-8")
    figures = CHANGING_MIX_FIGURES.read_text(encoding="utf-8")
    CHANGING_MIX.write_text(changing_mix_text(CHANGING_MIX.read_text(encoding="utf-8"), figures), encoding="utf-8")
    if DEMO.is_file():
        demo = json.loads(DEMO.read_text(encoding="utf-8"))
        START_HERE.write_text(start_here_text(START_HERE.read_text(encoding="utf-8"), demo), encoding="utf-8")


if __name__ == "__main__":
    main()
