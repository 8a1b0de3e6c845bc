"""Is what is served what was evaluated? Test impressions replayed in order of time, with their events.

    python benchmarks/serving/replay.py runs/hotels/musenet-soft/seed-1 export --store history.sqlite

For runs on the `own_files` source. Fills a new store with the log's events until the test period, then plays the test
period to the service in order of time, events as they happen and requests as they come, and compares every score with
the model in the run folder. The last line tells the largest difference.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import ibis
import numpy as np
import torch
import typer
from starlette.testclient import TestClient

from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.roles import ITEM, KIND, MICROSECONDS, REQUEST, TIME, USER
from musenet.engines.engine import Engine
from musenet.runs.folder import RunFolder
from musenet.runs.run import load_model
from musenet.serving.export.filling import fill_store
from musenet.serving.http.app import create_app
from musenet.serving.service.service import Service
from musenet.sources.own_files import OwnFiles, OwnFilesOptions

TOLERANCE = 1e-5
AT_ONCE = 500


def main(
    run: Annotated[Path, typer.Argument(help="a trained run")],
    export: Annotated[Path, typer.Argument(help="its export")],
    store: Annotated[str, typer.Option(help="a new store's path or URL")],
    impressions: Annotated[int, typer.Option()] = 10_000,
) -> None:
    """Replay and compare."""
    opened = RunFolder.open(run)
    experiment, dataset = opened.experiment, opened.dataset
    if not isinstance(experiment.data, OwnFilesOptions):
        raise SystemExit(f"{run} is not of the source own_files, whose events alone can be replayed: give another run")
    source = OwnFiles(experiment.data, experiment.recipe, Path())
    period = dataset.manifest.splits["test"]
    offset = dataset.requests.candidate_offset
    last = min(period.end, int(np.searchsorted(offset, offset[period.begin] + impressions)))
    times = dataset.requests.time[period.begin : last]
    service = Service(export, store)
    filled = fill_store(service.store, source, experiment.recipe, int(times[0]))
    typer.echo(f"{filled:,} events until the test period")
    shown, events = log_of(source, int(times[0]), int(times[-1]))
    with TestClient(create_app(service), base_url="http://localhost") as client:
        served = replay(client, list(requests_of(dataset, shown, period.begin, last)), events)
    difference = np.abs(np.array(served) - offline(opened, period.begin, last)).max()
    typer.echo(f"{len(served):,} impressions of {last - period.begin:,} requests, up to {len(events):,} events")
    verdict = "within" if difference <= TOLERANCE else "BEYOND"
    typer.echo(f"largest difference: {difference:.2e} ({verdict} {TOLERANCE})")


def replay(client: TestClient, requests: list[dict[str, Any]], events: list[dict[str, Any]]) -> list[float]:
    """The scores of the requests, in their order, each asked once all events before it were sent."""
    served: list[float] = []
    sent = 0
    for request in requests:
        until = sent
        while until < len(events) and events[until]["time"] < request["time"]:
            until += 1
        for begin in range(sent, until, AT_ONCE):
            post(client, "/events", {"events": events[begin : min(begin + AT_ONCE, until)]})
        sent = until
        served += post(client, "/score", request)["scores"]
    return served


def log_of(source: OwnFiles, begin: int, end: int) -> tuple[dict[Any, list[dict[str, Any]]], list[dict[str, Any]]]:
    """The impressions by request, and the events of the period in order of time."""
    engine = Engine(ibis.duckdb.connect())
    tables = source.tables(engine)
    assert tables.events is not None
    shown = tables.impressions.filter((tables.impressions[TIME] >= begin) & (tables.impressions[TIME] <= end))
    by_request: dict[Any, list[dict[str, Any]]] = {}
    for row in engine.read(shown).to_pylist():
        by_request.setdefault(key_of(row), []).append(row)
    happened = tables.events.filter((tables.events[TIME] >= begin) & (tables.events[TIME] < end)).order_by(TIME)
    return by_request, [as_sent(event) for event in engine.read(happened).to_pylist()]


def key_of(row: dict[str, Any]) -> Any:
    return row[REQUEST] if REQUEST in row else (row[USER], row[TIME])


def requests_of(
    dataset: Dataset, shown: dict[Any, list[dict[str, Any]]], begin: int, end: int
) -> Iterator[dict[str, Any]]:
    """The dataset's requests from the log's own columns, candidates in the dataset's order."""
    keys, items = dataset.keys("requests"), dataset.keys("items", [ITEM])[ITEM].to_pylist()
    fields = list(dataset.fields("context", "candidate"))
    names = {side: {one.column or one.name for one in fields if one.side == side} for side in ("context", "candidate")}
    for row, key in zip(range(begin, end), keys.slice(begin, end - begin).to_pylist(), strict=True):
        by_item = {one[ITEM]: one for one in shown[key_of(key)]}
        order = [by_item[items[code]] for code in dataset.candidates.item[dataset.candidates_between(row, row + 1)]]
        yield {
            "user": key[USER],
            "time": key[TIME] / MICROSECONDS,
            "context": {name: order[0][name] for name in names["context"]},
            "candidates": [{"item": one[ITEM], **{name: one[name] for name in names["candidate"]}} for one in order],
        }


def as_sent(event: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in event.items() if not name.startswith("_")}
    return {
        "user": event[USER],
        "item": event[ITEM],
        "kind": event.get(KIND),
        "time": event[TIME] / MICROSECONDS,
        **own,
    }


def post(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    if answer.status_code != 200:
        raise SystemExit(f"{path} {answer.status_code}: {answer.text}")
    found: dict[str, Any] = answer.json()
    return found


def offline(run: RunFolder, begin: int, end: int) -> np.ndarray:
    """P(click) by the model in the run folder."""
    model, dataset = load_model(run), run.dataset
    builder = BatchBuilder(dataset)
    correction = np.log(dataset.manifest.negative_sampling_rate)
    with torch.no_grad():
        logits = [
            model(builder.build(np.arange(first, min(first + 500, end)))).logit.double().numpy()
            for first in range(begin, end, 500)
        ]
    return np.asarray(1 / (1 + np.exp(-(np.concatenate(logits) + correction))))


if __name__ == "__main__":
    typer.run(main)
