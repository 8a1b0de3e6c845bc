"""Commands on logs: look at one, turn one into a dataset, simulate one; and what a configuration may hold."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from musenet.cli.options import Config, EngineChoice, Json, MemoryLimit, Out, Set
from musenet.cli.printing import finish
from musenet.files import write_text
from musenet.reporter import Reporter
from musenet.storage.addresses import address, here


def init(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="a log's files or folders: Parquet, CSV or JSON lines")
    ],
    out: Annotated[Path, typer.Option("--out", help="the YAML to write; never overwritten")] = Path("musenet.yaml"),
    as_json: Json = False,
) -> None:
    """Guess a configuration from a log's files, and write it.

    For example: musenet init impressions.parquet clicks.parquet items.csv
    """
    from musenet import api
    from musenet.sources.guess.configuration import doubts_of_roles

    with Reporter():
        written = api.init(files, out)
    doubts = [f"doubt: {doubt}" for doubt in doubts_of_roles(here(written).read_text(encoding="utf-8"))]
    said = f"wrote {written}: read its comments, then `musenet train {written}`"
    finish(as_json, {"config": written}, "\n".join([said, *doubts]))


def prepare(
    config: Config,
    out: Out = None,
    engine: EngineChoice = "duckdb",
    memory_limit: MemoryLimit = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="replace the dataset in the folder, even if runs depend on it")
    ] = False,
    extend: Annotated[
        Path | None,
        typer.Option(
            "--extend", metavar="DATASET", help="add only the new files of the log; --out names the new dataset"
        ),
    ] = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Turn a log into a dataset: split by time, encoded, checked.

    For example: musenet prepare hotels.yaml --memory-limit 8GB
    """
    from musenet import api
    from musenet.preparation.checks.checks import render

    with Reporter() as reporter:
        prepared = api.prepare(
            config,
            out,
            engine=engine,
            memory_limit=memory_limit,
            replace=replace,
            extends=extend,
            overrides=changes,
            listener=reporter,
        )
    manifest = prepared.dataset.manifest
    counts = {name: getattr(manifest, name) for name in ("users", "items", "events", "requests", "candidates")}
    content = {
        "dataset": prepared.folder,
        "fingerprint": manifest.fingerprint,
        "reused": prepared.reused,
        **counts,
        "splits": {name: period.model_dump() for name, period in manifest.splits.items()},
        "warnings": prepared.checks.warnings,
    }

    def show(console: Console) -> None:
        render(prepared.checks, console)
        numbers = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        console.print(f"{address(prepared.folder)}: {numbers}", soft_wrap=True)

    finish(as_json, content, show)


def simulate_hotels(  # noqa: PLR0913, PLR0917 - one per option
    out: Annotated[Path, typer.Option("--out", help="the folder to write")],
    impressions: Annotated[int, typer.Option("--impressions")] = 2_000_000,
    seed: Annotated[int, typer.Option("--seed")] = 1,
    scenario_count: Annotated[int, typer.Option("--scenarios", help="planted scenarios")] = 4,
    noise: Annotated[float, typer.Option("--noise", help="randomness in which scenario applies")] = 1.0,
    strength: Annotated[float, typer.Option("--strength", help="how much scenarios differ; 0: not at all")] = 1.0,
    shift: Annotated[float, typer.Option("--shift", help="size of the drift in the last days, 0 to 1")] = 0.0,
    drift: Annotated[
        Literal["sudden", "slow", "returning", "unseen", "taste"],
        typer.Option("--drift", help="what changes: sudden, slow or returning shares, unseen, or taste"),
    ] = "sudden",
    drift_days: Annotated[int, typer.Option("--drift-days", help="days with drift, at the end")] = 7,
    as_json: Json = False,
) -> None:
    """Simulate an online travel log with planted scenarios.

    For example: musenet simulate hotels --out data/hotels
    """
    from musenet import api

    with Reporter() as reporter:
        rows = api.simulate_hotels(
            out,
            progress=reporter.steps("simulating"),
            impressions=impressions,
            seed=seed,
            scenarios=scenario_count,
            noise=noise,
            strength=strength,
            shift=shift,
            drift=drift,
            drift_days=drift_days,
        )
    numbers = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    finish(as_json, {"out": out, "rows": rows}, f"{out}: {numbers}")


def simulate_ads(
    out: Annotated[Path, typer.Option("--out", help="the folder to write")],
    scale: Annotated[
        float | None, typer.Option("--scale", help="share of the published size (0.01, if neither is given)")
    ] = None,
    impressions: Annotated[
        int | None, typer.Option("--impressions", help="the size as about this many impressions")
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 1,
    as_json: Json = False,
) -> None:
    """Simulate the files of Ali Display Ads.

    For example: musenet simulate ads --out data/ads --scale 0.01
    """
    from musenet import api

    with Reporter() as reporter:
        progress = reporter.steps("simulating")
        rows = api.simulate_ads(out, progress=progress, scale=scale, impressions=impressions, seed=seed)
    numbers = ", ".join(f"{count:,} in {name}" for name, count in rows.items())
    finish(as_json, {"out": out, "rows": rows}, f"{out}: {numbers}")


def config_schema(out: Out = None) -> None:
    """Print the JSON schema of a configuration, for editors.

    For example: musenet config-schema > schema.json
    """
    from musenet.config.loading import json_schema

    text = json.dumps(json_schema(), indent=2)
    if out is None:
        typer.echo(text)
    else:
        write_text(out, text + "\n")
