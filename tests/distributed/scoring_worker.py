"""Run as a script, by torchrun or alone: a command of musenet, which scores few candidates at a time.

    python scoring_worker.py ARGUMENT…

With HELD in the environment, <HELD>/<rank> then says how many rows of the table each worker had, and how many batches
it scored last. With FAILS the last worker cannot read its part of the dataset, with DIES it is killed there.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

from musenet.cli.main import main
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.errors import DatasetError
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.scoring import predict
from musenet.models.interface import ClickModel
from musenet.runs import run

FEW = 12
built = 0
build = BatchBuilder.build


def build_and_count(*args: Any, **options: Any) -> Any:
    global built  # noqa: PLW0603
    built += 1
    return build(*args, **options)


def predict_and_tell(model: ClickModel, dataset: Dataset, split: Split, **options: Any) -> Predictions:
    global built  # noqa: PLW0603
    built = 0
    answers = predict(model, dataset, split, FEW, **options)
    if "HELD" in os.environ:
        file = Path(os.environ["HELD"], os.environ.get("RANK", "0"))
        file.write_text(json.dumps([len(model.table.weight), built]), encoding="utf-8")
    return answers


def fail(*_: object) -> None:
    if "DIES" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    raise DatasetError("a column cannot be read: prepare the dataset again")


if __name__ == "__main__":
    run.predict = predict_and_tell  # type: ignore[assignment, attr-defined]
    fails = {"FAILS", "DIES"} & os.environ.keys()
    is_last = os.environ.get("RANK") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1)
    BatchBuilder.build = fail if fails and is_last else build_and_count  # type: ignore[assignment, method-assign]
    main()
