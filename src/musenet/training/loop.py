"""The training loop: steps, validation, the best weights, early stopping, checkpoints."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from musenet.config.experiment import Experiment
from musenet.config.training import TrainingOptions
from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.batches import Batches, on_device, part_of_requests
from musenet.dataset.dataset import Dataset
from musenet.distributed import workers
from musenet.errors import RunError, TrainingDivergedError
from musenet.evaluation.ranking import larger_is_better
from musenet.evaluation.scoring import validation_scores
from musenet.files import checksum
from musenet.models.interface import ClickModel, Prediction, Term, check_answer, check_terms
from musenet.models.layers import set_dropout
from musenet.runs.folder import RunFolder
from musenet.runs.tensor_files import save_tensors
from musenet.runs.training_result import TrainingResult
from musenet.training.averaging import averaged
from musenet.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from musenet.training.memory import keep_freed_memory
from musenet.training.optimizers import Optimizers
from musenet.training.placement import Onlooker, device_named
from musenet.training.precision import doubt_about, tf32_products
from musenet.training.warm_start import first_model, learned_until

Log = Callable[[dict[str, Any]], None]
"""Told of every report: step, planned steps, samples per second, seconds to go, loss terms or validation scores.

Before them, that training begins, in which folder and whether it is resumed; of warnings, with a validation or alone;
and of the result at the end.
"""

REPORT_SECONDS = 2.0
CANDIDATES_PER_THREAD = 1024
"""Of a batch. Threads with less to do gain little, and on a busy machine wait for each other many times in a step."""
FEW_STEPS = 100
"""Fewer hardly move the weights, whatever the log says."""


def train(
    experiment: Experiment,
    dataset: Dataset,
    run: RunFolder,
    *,
    resume: bool = False,
    start: RunFolder | None = None,
    log: Log | None = None,
) -> TrainingResult:
    """Train the experiment's model and keep its best weights by validation in the run folder.

    Args:
        experiment: whose model and training options are followed.
        dataset: prepared by the experiment's recipe.
        run: an existing run folder, see `RunFolder.create`.
        resume: go on from the run's checkpoint, to the same weights as without the interruption.
        start: the run whose weights training begins with; fresh ones if None.
        log: told of every report.

    Raises:
        TrainingDivergedError: if a loss term is no longer finite; step, term and the batch's requests are saved.
        RunError: on `resume` without a checkpoint, or with one of another model.
        KeyboardInterrupt: after the step in which Ctrl-C came, once the checkpoint is written.

    Several workers (`musenet.distributed`) train one model on the same batches; the first one alone writes and logs.
    """
    return Trainer(experiment, dataset, run, log or (lambda _: None), start).train(resume)


class Trainer:
    """One training of one model; see `train`."""

    def __init__(
        self, experiment: Experiment, dataset: Dataset, run: RunFolder, log: Log, start: RunFolder | None = None
    ) -> None:
        self.experiment, self.options, self.seed = experiment, experiment.training, experiment.seed
        self.dataset = dataset
        self.run = run if workers.is_first() else Onlooker(run.path)
        self.log: Log = log if workers.is_first() else lambda _: None
        keep_freed_memory()
        self.device = device_named(self.options.device)
        self.model = first_model(experiment, dataset, start).to(self.device, self.options.dtype)
        set_dropout(self.model, self.options.dropout)
        self.average = None if self.options.average is None else averaged(self.model, self.options.average)
        rate = self.options.learning_rate
        of_table = self.options.embedding_learning_rate or rate
        self.optimizers = Optimizers(self.model, rate, of_table, self.options.weight_decay, self.options.betas)
        until = None if start is None else learned_until(start)
        self.batches = Batches(
            dataset,
            "train",
            self.options.batch_size,
            shuffle_seed=self.seed,
            unseen_rate=self.options.unseen_rate,
            requests=part_of_requests(dataset, "train", self.options.requests, until, self.options.replay),
            part=(workers.rank(), workers.count()),
            pinned=self.device.type == "cuda",
        )
        self.state = TrainingState()
        self._reported = -math.inf
        self.planned = self.options.epochs * len(self.batches)
        self.validate_every = max(1, math.ceil(len(self.batches) / self.options.validations_per_epoch))

    def train(self, resume: bool) -> TrainingResult:
        """Train to the end, or until patience is over."""
        if resume:
            self.resume()
        warnings = [*self.doubts()]
        if unreadable := self.run.keep_metrics_until(self.state.step):
            warnings.append(f"{unreadable:,} lines of {self.run.metrics_file} could not be read and are dropped")
        if warnings:
            self.log({"step": self.state.step, "planned": self.planned, "warnings": warnings})
        self.run.remove_leftovers()
        with threads_for(self.options), interruptible() as interrupted:
            self.run.record_threads(torch.get_num_threads())
            for epoch, batch in self.remaining_batches():
                started = time.perf_counter()
                terms = self.step(batch)
                impressions, interruptions = workers.global_counts(batch.candidates, int(interrupted()))
                self.state.impressions += impressions
                self.state.seconds += time.perf_counter() - started
                self.report(epoch, terms)
                if self.is_validation_due():
                    self.validate(epoch)
                if self.is_patience_over():
                    break
                if self.state.step % self.options.checkpoint_every == 0:
                    self.checkpoint()
                if interruptions:
                    self.checkpoint()
                    if not self.state.best:  # something to look at; the first validation after going on replaces it
                        self.run.save_model(self.kept.whole_state())
                    workers.first_does(_interrupt)
        self.checkpoint()
        return workers.first_does(self.result)

    def doubts(self) -> Iterator[str]:
        """Sentences about what looks as if little could be learned, though the log holds it, or as if it took long."""
        few = self.planned < FEW_STEPS
        if few and self.options.requests == self.options.replay == 1:  # shares are of those who know, such as tuning
            yield (
                f"training takes only {self.planned:,} steps ({self.options.epochs} epochs of {len(self.batches):,}), "
                "which is little to learn from: lower training.batch_size or raise training.epochs"
            )
        history = schema_of(self.dataset).history_fields
        if history and "item" not in self.experiment.model.seen_ids and all(field.is_id for field in history):
            yield (
                "the model reads no history: history.columns hold the items' ids alone, and model.ids leaves item out: "
                "name further columns of the events or items, or add item to model.ids"
            )
        if doubt := doubt_about(self.options.precision, self.device):
            yield doubt

    def resume(self) -> None:
        """Go on from the checkpoint."""
        if not self.run.checkpoint_file.is_file():
            raise RunError(f"{self.run.path} has no checkpoint to resume from: start again with --restart")
        self.state = load_checkpoint(self.run, self.model, self.optimizers, self.average)

    def remaining_batches(self) -> Iterator[tuple[int, Batch]]:
        """Epoch and batch on the device, from the step reached on; none if patience was over there."""
        if self.is_patience_over():
            return
        per_epoch = len(self.batches)
        for epoch in range(self.state.step // per_epoch, self.options.epochs):
            built = self.batches.epoch(epoch, start=self.state.step - epoch * per_epoch)
            for batch in on_device(built, self.device, self.options.dtype):
                yield epoch, batch

    def step(self, batch: Batch) -> dict[str, Term]:
        """One step on one batch on the device; its random numbers depend on seed and step alone."""
        torch.manual_seed(self.seed * 1_000_003 + self.state.step)
        self.model.train()
        progress = self.state.step / self.planned
        self.optimizers.zero_grad()
        with tf32_products(self.options.precision == "tf32" and self.device.type == "cuda"):
            prediction, terms = self.gradients(batch, progress)
        self.optimizers.step(1 - (1 - self.options.final_learning_rate) * progress)
        self.model.after_step(prediction, batch, progress)
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.state.step += 1
        return terms

    def gradients(self, batch: Batch, progress: float) -> tuple[Prediction, dict[str, Term]]:
        """What the model says of the batch and the terms of its loss, whose gradients are there then."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            prediction: Prediction = self.model(batch, progress)
        check_answer(self.model, prediction, batch)
        terms = self.model.losses(prediction, batch, progress)
        check_terms(self.model, terms)
        total = torch.stack([term.weight * term.value for term in terms.values()]).sum()
        if not math.isfinite(total.item()):
            self.diverged(terms, batch)
        # Every worker has the whole loss, and the gradients of all are added up.
        (total / workers.count()).backward()  # type: ignore[no-untyped-call]
        return prediction, terms

    def diverged(self, terms: dict[str, Term], batch: Batch) -> None:
        """Save the batch and say which term broke."""
        broken = [name for name, term in terms.items() if not math.isfinite(term.value.item())] or ["the sum"]
        file = self.run.path / "diverged.safetensors"
        cure = "try a lower training.learning_rate" if self.state.step else "nothing was learned yet: look at the model"
        description = {"step": str(self.state.step), "terms": ", ".join(broken)}
        requests = torch.cat(workers.all_rows(batch.request_index))

        def save_and_say() -> None:
            save_tensors(file, {"requests": requests}, description)
            raise TrainingDivergedError(
                f"the loss is no longer a number at step {self.state.step} (term {', '.join(broken)}); the batch's "
                f"requests are saved in {file}: {cure}"
            )

        workers.first_does(save_and_say)

    def report(self, epoch: int, terms: dict[str, Term]) -> None:
        """Tell every few seconds how training goes; every validation also writes it to metrics.jsonl."""
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS and not self.is_validation_due():
            return
        self._reported = now
        speed = self.state.impressions / max(self.state.seconds, 1e-9)
        entry = {
            "step": self.state.step,
            "planned": self.planned,
            "epoch": epoch,
            "samples_per_second": speed,
            "seconds_to_go": (self.planned - self.state.step) * self.options.batch_size / speed,
            "losses": {name: term.value.item() for name, term in terms.items()},
        }
        self.log(entry)
        if self.is_validation_due():
            self.run.append_metrics(entry)

    def is_validation_due(self) -> bool:
        """At even distances inside an epoch, and at its end."""
        within = self.state.step % len(self.batches)
        return within == 0 or within % self.validate_every == 0

    def validate(self, epoch: int) -> None:
        """Validate, and keep the weights if they are the best yet."""
        limit, monitor = self.options.validation_impressions, self.options.monitor
        scores = validation_scores(self.kept, self.dataset, limit, monitor=monitor)
        health = self.model.health()
        entry = {"step": self.state.step, "planned": self.planned, "epoch": epoch, "valid": scores}
        entry |= {"health": health.values, "warnings": health.warnings}
        if self.state.step / self.planned > self.model.keep_from():
            better = is_better(scores, self.state.best, monitor)
            if better:
                self.state.best = {"step": self.state.step, "epoch": epoch, **scores}
                self.run.save_model(self.kept.whole_state())
            self.state.without_improvement = 0 if better else self.state.without_improvement + 1
            entry["best"] = better
        self.run.append_metrics(entry)
        self.log(entry)

    @property
    def kept(self) -> ClickModel:
        """What is validated and kept: the model, or the average of its weights."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def is_patience_over(self) -> bool:
        """Whether too many validations in a row were no better."""
        return self.state.without_improvement >= self.options.patience

    def checkpoint(self) -> None:
        """Write the checkpoint to resume from."""
        save_checkpoint(self.run, self.model, self.optimizers, self.state, self.average)

    def result(self) -> TrainingResult:
        """What is told and written at the end."""
        given_up = f"no better {self.options.monitor} in {self.options.patience} validations"
        result = TrainingResult(
            run=str(self.run.path),
            best=self.state.best,
            seconds=self.state.seconds,
            samples_per_second=self.state.impressions / max(self.state.seconds, 1e-9),
            stopped=given_up if self.is_patience_over() else "planned steps",
            parameters=self.model.count_parameters(),
            weights=checksum(self.run.model_file) if self.run.model_file.is_file() else None,
        )
        result.write(self.run.training_file)
        self.log(result.to_json())
        return result


def is_better(scores: Mapping[str, float], best: Mapping[str, Any], monitor: str) -> bool:
    """Whether validation scores beat the best ones so far, which may be none; any number beats none."""
    if not best:
        return True
    score, so_far = scores[monitor], float(best[monitor])
    if math.isnan(so_far):
        return not math.isnan(score)
    return score > so_far if larger_is_better(monitor) else score < so_far


@contextmanager
def threads_for(options: TrainingOptions) -> Iterator[None]:
    """As many threads of torch as the options say, or as a batch has work for; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads or min(before, max(1, options.batch_size // CANDIDATES_PER_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _interrupt() -> None:
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag that is looked at between steps; a second one interrupts at once.

    To several workers torchrun passes on the Ctrl-C that they have got already; it ends them itself if they take long.
    """
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return

    def remember(*_: Any) -> None:
        seen.set()
        if workers.alone():
            signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, before)
