"""Growing gradient-boosted trees: the same requests, validation and result as the training loop has.

Shapes: N candidates, C columns.
"""

import math
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch

from musenet.config.experiment import Experiment
from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.batches import Batches, part_of_requests
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.distributed import workers
from musenet.errors import RunError
from musenet.evaluation.ranking import larger_is_better
from musenet.evaluation.scoring import BATCH_SIZE, evenly_spaced, scores_of
from musenet.files import checksum
from musenet.models.baselines.boosted_trees import LightGbm, TreeColumns
from musenet.models.baselines.options import LightGbmOptions, library
from musenet.runs.folder import RunFolder
from musenet.runs.training_result import TrainingResult
from musenet.training.loop import Log, interruptible, is_better

TREES_PER_VALIDATION = 10
ENDED = {False: "planned trees", True: "no tree splits any further"}
"""Why growing ended while validation had become better, by whether the last tree could not split."""


def boost(
    experiment: Experiment, options: LightGbmOptions, dataset: Dataset, run: RunFolder, log: Log | None = None
) -> TrainingResult:
    """Grow trees until patience is over, and keep those up to the best validation in the run folder.

    Args:
        experiment: whose share of the requests, validation and seed are followed.
        options: of the model.
        dataset: prepared by the experiment's recipe.
        run: an existing run folder.
        log: told of every validation.

    Raises:
        RunError: if several workers are to train it.
        KeyboardInterrupt: after the tree in which Ctrl-C came; it begins anew then.
    """
    if not workers.alone():
        raise RunError("model.name: lightgbm is trained by one process: start it without torchrun")
    training, log, started = experiment.training, log or (lambda _: None), time.perf_counter()
    model = LightGbm(options, schema_of(dataset))
    train, valid = _tables(experiment, dataset, model.columns)
    booster = library().Booster(_parameters(options, experiment), train)
    booster.add_valid(valid, "valid")
    requests = evenly_spaced(dataset, "valid", training.validation_impressions)
    watched = partial(_scores, training.monitor, np.repeat(np.arange(len(requests)), dataset.sizes_of(requests)))
    best: dict[str, Any] = {}
    run.keep_metrics_until(0)
    run.remove_leftovers()
    run.record_threads(_threads(experiment))
    with interruptible() as interrupted:
        for tree in range(1, options.trees + 1):
            stuck = booster.update()
            if tree % TREES_PER_VALIDATION == 0 or tree == options.trees or stuck:
                scores = {name: value for _, name, value, _ in booster.eval_valid(watched)}
                entry = {"step": tree, "planned": options.trees, "epoch": 0, "valid": scores}
                better = is_better(scores, best, training.monitor)
                best = {"step": tree, "epoch": 0, **scores} if better else best
                entry |= {"health": {}, "warnings": [], "best": better}
                run.append_metrics(entry)
                log(entry)
                if stuck or tree - best["step"] >= options.patience:
                    break
            if interrupted():
                raise KeyboardInterrupt
    model.grown(booster.model_to_string(num_iteration=best["step"]))
    run.save_model(model.whole_state())
    seconds = time.perf_counter() - started
    impatient = tree - best["step"] >= options.patience
    result = TrainingResult(
        run=str(run.path),
        best=best,
        seconds=seconds,
        samples_per_second=train.num_data() / seconds,
        stopped=f"no better {training.monitor} in {options.patience} trees" if impatient else ENDED[bool(stuck)],
        parameters=model.count_parameters(),
        weights=checksum(run.model_file),
    )
    result.write(run.training_file)
    log(result.to_json())
    return result


def _tables(experiment: Experiment, dataset: Dataset, columns: TreeColumns) -> tuple[Any, Any]:
    """Training and validation as LightGBM takes them: as training shows them, and as scoring does."""
    training, seed = experiment.training, experiment.seed
    chosen = part_of_requests(dataset, "train", training.requests)
    shown = Batches(dataset, "train", BATCH_SIZE, shuffle_seed=seed, unseen_rate=training.unseen_rate, requests=chosen)
    requests, scored = evenly_spaced(dataset, "valid", training.validation_impressions), BatchBuilder(dataset)
    parts = np.array_split(requests, max(1, math.ceil(dataset.sizes_of(requests).sum() / BATCH_SIZE)))
    train = _table(shown.epoch(), columns)
    return train, _table((scored.build(part) for part in parts), columns, reference=train)


def _table(batches: Iterable[Batch], columns: TreeColumns, **known: Any) -> Any:
    rows, labels, weights = [], [], []
    for batch in batches:
        rows.append(columns(batch).astype(np.float32))
        labels.append(batch.label.numpy())
        weights.append(None if batch.weight is None else batch.weight.numpy())
    weight = None if weights[0] is None else np.concatenate([one for one in weights if one is not None])
    data, label = np.concatenate(rows), np.concatenate(labels)
    known |= {"categorical_feature": np.flatnonzero(columns.categorical).tolist(), "params": {"verbosity": -1}}
    return library().Dataset(data, label, weight=weight, **known)


def _parameters(options: LightGbmOptions, experiment: Experiment) -> dict[str, Any]:
    """What LightGBM calls the options; the same seed gives the same trees, however many threads there are."""
    return {
        "objective": "binary",
        "metric": "none",
        "learning_rate": options.shrinkage,
        "num_leaves": options.leaves,
        "min_data_in_leaf": options.rows_per_leaf,
        "bagging_fraction": options.row_share,
        "bagging_freq": 1,
        "feature_fraction": options.column_share,
        "seed": experiment.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": _threads(experiment),
        "verbosity": -1,
    }


def _threads(experiment: Experiment) -> int:
    return experiment.training.threads or torch.get_num_threads()


def _scores(monitor: str, request: Any, probability: Any, data: Any) -> list[tuple[str, float, bool]]:
    """AUC, logloss and `monitor` of validation, as LightGBM asks for them."""
    near = np.clip(probability, 1e-15, 1 - 1e-15)
    logit, label, weight = np.log(near / (1 - near)), data.get_label(), data.get_weight()
    scores = scores_of(monitor, label, logit, request, weight)
    return [(name, value, larger_is_better(name)) for name, value in scores.items()]
