"""One of the workers that `scaling.py measure` starts by torchrun: what a training step takes and sends.

python steps.py TASK.json, under torchrun; the first worker prints the measurement as JSON.
"""

import json
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import musenet
from musenet.dataset.batch import Batch
from musenet.dataset.dataset import Dataset
from musenet.distributed import workers
from musenet.runs.folder import RunFolder
from musenet.training.loop import Trainer

CONFIG = Path(__file__).parents[2] / "configs" / "ads.yaml"
WARM_STEPS = 2


def measure(task: dict[str, Any], run: Path) -> dict[str, Any]:
    """Sums over the workers, by step."""
    settings = [f"model={json.dumps(task['model'])}", f"training.batch_size={task['batch_size']}"]
    settings += ["training.device=cpu", f"training.embeddings={task['embeddings']}"]
    experiment = musenet.load(CONFIG, settings)
    trainer = Trainer(experiment, Dataset(Path(task["dataset"])), RunFolder(run), lambda _: None)
    batches: list[Batch] = list(islice(trainer.batches.epoch(0), WARM_STEPS + task["steps"]))
    for batch in batches[:WARM_STEPS]:
        trainer.step(batch)
    workers.gathered([None])
    sent, processor = _sent(), time.process_time()
    for batch in batches[WARM_STEPS:]:
        trainer.step(batch)
    processor = time.process_time() - processor
    workers.gathered([None])
    sent = _sent() - sent
    counted = batches[WARM_STEPS:]
    totals = workers.gathered([(processor, sum(b.candidates for b in counted), sum(len(b.rows) for b in counted))])
    seconds, candidates, rows = (sum(one) / task["steps"] for one in zip(*totals, strict=True))
    networks = (parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    return {
        "candidates": candidates,
        "rows": rows,
        "dense_parameters": sum(networks),
        "sent_bytes": sent / task["steps"],
        "processor_seconds": seconds,
    }


def _sent() -> int:
    """Bytes that this machine has sent to itself, by which its workers speak."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with workers.joined(), tempfile.TemporaryDirectory() as folder:
        found = measure(task, Path(folder))
        if workers.is_first():
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
