"""Training speed: ours beside its peers, scenarios beside none, large beside small. docs/speed.md says more.

    python benchmarks/speed/speed.py --out runs/speed [--only din-pages,scenarios] [--turns 5] [--steps 3]

Writes speed.json and speed.md. The last lines are the ratios, one a line.
"""

import os
import statistics
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ads_shaped import Pages, Shape, write_ads_shaped
from peer_export import arrays_of, describe
from same_maths import auc_difference
from turns import Contestant, Ratio, Speed, ratio, started, take_turns

from musenet.dataset.dataset import Dataset
from musenet.files import write_json, write_text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SMALL_INTENTION = [16]
"""Layers of MUSENET's networks of the repeat probability that learn as well as those of the heads' size."""
PEERS = {
    "fuxictr": HERE / ".venv-fuxictr",
    "deepctr_torch": HERE.parent / "accuracy" / ".venv-peers",
    "torch_rechub": HERE / ".venv-torch-rechub",
}
BATCHES = 8
"""Batches in memory, which are trained on in turn."""
STANDARD = {
    "embedding": 16,
    "hidden": [128, 64],
    "attention_hidden": 64,
    "learning_rate": 0.001,
    "batches": BATCHES,
    "seed": 1,
}
DIN = {"name": "din", "attention_hidden": 64, "activation": "dice", "repeat_features": False}
REQUESTS: dict[Pages, int] = {"mixed": 12_000, "single": 50_000}
LARGE_IMPRESSIONS = 4_000_000
"""Requests of the log that memory is measured on, beside a tenth of it."""


class Benchmark:
    """Where things lie, and how long is measured.

    Args:
        asked: the command line.
    """

    def __init__(self, asked: Namespace) -> None:
        self.out: Path = asked.out
        self.turns, self.steps, self.tables = asked.turns, asked.steps, asked.tables
        self.sizes = STANDARD | {"batch_size": asked.batch_size, "threads": asked.threads}
        self.peers = {name: python for name, python in PEERS.items() if name in asked.peers}
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "accuracy")])}
        self.speeds: dict[str, list[Speed]] = {}

    def dataset(self, requests: int, pages: Pages = "mixed", *, tables: float = 1.0, repeats: bool = True) -> Dataset:
        """An ADS-shaped dataset, made once."""
        shape = Shape(requests, pages, tables * self.tables, repeats)
        return write_ads_shaped(
            self.out / f"{pages}-{requests}-{shape.tables}-{'' if repeats else 'un'}repeated", shape
        )

    def ours(
        self, name: str, model: dict[str, Any], dataset: Dataset, do: str = "steps", precision: str = "float32"
    ) -> Contestant:
        """One of our models."""
        sizes = {key: STANDARD[key] for key in ("embedding", "hidden")}
        task = self.sizes | {"model": sizes | model, "dataset": str(dataset.folder), "precision": precision}
        return Contestant(name, Path(sys.executable), HERE / "ours.py", task, do)

    def peer(self, name: str, export: Path) -> Contestant:
        """A peer's DIN."""
        task = self.sizes | {"export": str(export), "activation": DIN["activation"]}
        return Contestant(name, self.peers[name] / "bin" / "python", HERE / f"{name}_peer.py", task)

    def measure(self, table: str, contestants: list[Contestant]) -> dict[str, Speed]:
        """Let them take turns, and remember it under the table's name."""
        speeds = take_turns(contestants, self.out, self.environment, turns=self.turns, steps=self.steps)
        self.speeds[table] = speeds
        return {speed.name: speed for speed in speeds}


def din(benchmark: Benchmark, pages: Pages) -> list[Ratio]:
    """Our DIN, loader included, beside every peer's, two at a time, so that memory holds the tables of two."""
    dataset = benchmark.dataset(REQUESTS[pages], pages)
    export = _export(dataset, benchmark.out / f"export-{pages}")
    aims = {"fuxictr": "5" if pages == "mixed" else "3", "deepctr_torch": "10"}
    what = "pages of three and ten" if pages == "mixed" else "requests of one"
    found = []
    for name in benchmark.peers:
        contestants = [benchmark.ours("ours", DIN, dataset, "with_loader"), benchmark.peer(name, export)]
        speeds = benchmark.measure(f"DIN, {what}, {name}", contestants)
        found.append(ratio(f"DIN over {name}, {what}", speeds["ours"], speeds[name], aims.get(name, "")))
    return found


def unrepeated(benchmark: Benchmark) -> list[Ratio]:
    """Our DIN beside FuxiCTR's where no event of a history occurs twice, so that there is nothing to look at once."""
    dataset = benchmark.dataset(REQUESTS["mixed"], repeats=False)
    export = _export(dataset, benchmark.out / "export-unrepeated")
    pair = [benchmark.ours("ours", DIN, dataset, "with_loader"), benchmark.peer("fuxictr", export)]
    speeds = benchmark.measure("DIN, pages, fifty different events, fuxictr", pair)
    return [ratio("DIN over fuxictr, pages, fifty different events", speeds["ours"], speeds["fuxictr"])]


def loader(benchmark: Benchmark) -> list[Ratio]:
    """Steps on batches as the loader makes them, beside steps on batches in memory."""
    dataset = benchmark.dataset(REQUESTS["mixed"])
    found = []
    for model in (DIN, {"name": "base_model"}):
        name = model["name"]
        pair = [benchmark.ours("with loader", model, dataset, "with_loader"), benchmark.ours("step", model, dataset)]
        speeds = benchmark.measure(f"loader, {name}", pair)
        found.append(ratio(f"with the loader over steps alone, {name}", speeds["with loader"], speeds["step"]))
    return found


def scenarios(benchmark: Benchmark, precision: str = "float32") -> list[Ratio]:
    """MUSENET beside BaseModel in the same precision; every head as large as BaseModel's MLP."""
    dataset = benchmark.dataset(REQUESTS["mixed"])
    aims = {1: "", 4: "0.4", 16: "0.12"}
    models: dict[str, dict[str, Any]] = {"base": {"name": "base_model"}}
    models |= {f"K={k}": {"name": "musenet", "scenarios": k} for k in aims}
    small = "K=4, small p_r"
    models[small] = {"name": "musenet", "scenarios": 4, "intention_hidden": SMALL_INTENTION}
    contestants = [benchmark.ours(name, model, dataset, precision=precision) for name, model in models.items()]
    speeds = benchmark.measure(f"scenarios, {precision}", contestants)
    what = "MUSENET of K={} over BaseModel, " + precision
    found = [ratio(what.format(k), speeds[f"K={k}"], speeds["base"], aims[k]) for k in aims]
    return [*found, ratio(f"{what.format(4)}, small networks of p_r", speeds[small], speeds["base"], aims[4])]


def tables(benchmark: Benchmark) -> list[Ratio]:
    """The published number of users and items beside a tenth of it."""
    found = []
    for model in (DIN, {"name": "musenet"}):
        pair = [
            benchmark.ours(f"tables x{share}", model, benchmark.dataset(REQUESTS["mixed"], tables=share))
            for share in (1.0, 0.1)
        ]
        speeds = benchmark.measure(f"tables, {model['name']}", pair)
        name = f"{model['name']} with ten times the users and items"
        one, other = (speeds[contestant.name] for contestant in pair)
        found.append(ratio(name, one, other, "0.85"))
    return found


def memory(benchmark: Benchmark) -> list[Ratio]:
    """Bytes held while training on ten times the impressions."""
    held = []
    for requests in (LARGE_IMPRESSIONS // 10, LARGE_IMPRESSIONS):
        contestant = benchmark.ours(f"{requests} requests", {"name": "base_model"}, benchmark.dataset(requests))
        with started([contestant], benchmark.out, benchmark.environment) as (worker,):
            held.append(worker.ask("memory", steps=20)["bytes"])
    grown = held[1] / held[0]
    return [Ratio("resident memory with ten times the impressions", grown, grown, grown, aim="1.05")]


def peak(benchmark: Benchmark) -> list[Ratio]:
    """The share of a large matrix product's speed that the matrix products of whole steps reach."""
    dataset = benchmark.dataset(REQUESTS["mixed"])
    models: dict[str, dict[str, Any]] = {
        "din": DIN,
        "musenet, K=4": {"name": "musenet"},
        "musenet, K=16": {"name": "musenet", "scenarios": 16},
        "base_model": {"name": "base_model"},
    }
    found = []
    for name, model in models.items():
        with started([benchmark.ours(name, model, dataset)], benchmark.out, benchmark.environment) as (worker,):
            worker.ask("steps", steps=2)
            flops = worker.ask("flops")["flops"]
            shares = []
            for _ in range(benchmark.turns):
                most = worker.ask("peak")["flops_per_second"]
                answer = worker.ask("steps", steps=benchmark.steps)
                shares.append(flops * benchmark.steps / answer["seconds"] / most)
            found.append(Ratio(f"share of the peak, {name}", statistics.median(shares), min(shares), max(shares)))
    return found


def same_auc(benchmark: Benchmark) -> list[Ratio]:
    """Test AUC of our DIN less FuxiCTR's, on a log from which both can learn."""
    return [auc_difference(PEERS["fuxictr"] / "bin" / "python", benchmark.out, benchmark.environment)]


TABLES: dict[str, Callable[[Benchmark], list[Ratio]]] = {
    "din-pages": lambda benchmark: din(benchmark, "mixed"),
    "din-single": lambda benchmark: din(benchmark, "single"),
    "din-unrepeated": unrepeated,
    "auc": same_auc,
    "scenarios": scenarios,
    "scenarios-bfloat16": lambda benchmark: scenarios(benchmark, "bfloat16"),
    "loader": loader,
    "tables": tables,
    "memory": memory,
    "peak": peak,
}


def _export(dataset: Dataset, folder: Path) -> Path:
    """The training rows as arrays, without numbers, which our DIN does without here as well."""
    if not (folder / "schema.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "train.npz", **arrays_of(dataset, "train"))  # type: ignore[arg-type]
        write_json(folder / "schema.json", describe(dataset) | {"dense": []})
    return folder


def _parse() -> Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = ArgumentParser(description="Measure training speed.")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    parser.add_argument("--only", type=names, default=list(TABLES), help=f"of {', '.join(TABLES)}")
    parser.add_argument("--peers", type=names, default=list(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tables", type=float, default=1.0, help="times the published sizes: small to try it out")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="in every turn")
    return parser.parse_args()


def main() -> None:
    asked = _parse()
    benchmark = Benchmark(asked)
    found: list[Ratio] = []
    for table in asked.only:
        print(f"measuring {table} …", file=sys.stderr, flush=True)
        found += TABLES[table](benchmark)
        _write(benchmark, found)
    print((benchmark.out / "speed.md").read_text(encoding="utf-8"))
    print("\n".join(each.line() for each in found))


def _write(benchmark: Benchmark, found: list[Ratio]) -> None:
    """Write what was measured so far."""
    speeds = {table: [speed.to_json() for speed in each] for table, each in benchmark.speeds.items()}
    write_json(benchmark.out / "speed.json", {"ratios": [asdict(each) for each in found], "speeds": speeds})
    lines = [
        "| what | ratio | lowest | highest | by processor time | aim |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in found:
        cpu = "" if each.by_cpu is None else f"{each.by_cpu:.3g}"
        lines.append(f"| {each.name} | {each.median:.3g} | {each.low:.3g} | {each.high:.3g} | {cpu} | {each.aim} |")
    lines += ["", "| table | who | samples a second |", "| --- | --- | ---: |"]
    lines += [f"| {table} | {s.name} | {s.median:,.0f} |" for table, each in benchmark.speeds.items() for s in each]
    write_text(benchmark.out / "speed.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
