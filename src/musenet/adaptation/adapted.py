"""A run that follows a period, and how good it is beside the same run unadapted."""

from dataclasses import replace

from musenet.adaptation.finetune import finetune
from musenet.adaptation.intercept import follow_intercept
from musenet.adaptation.mix import Followed, follow_mix
from musenet.config.adaptation import AdaptOptions
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.errors import RunError
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.evaluation import AdaptationFigures, Evaluation, measure, protocol_line
from musenet.evaluation.intervals import difference, resample_model
from musenet.evaluation.predictions import Predictions
from musenet.models.predefined import PredefinedScenario
from musenet.runs.run import Run


def adapted(run: Run, dataset: Dataset, split: Split, options: AdaptOptions) -> tuple[Followed, Predictions]:
    """What a run answers on the way through a split, and what it answers unadapted.

    Raises:
        RunError: if the mix of its scenarios is to be followed and it has none, or it is to be fine-tuned and cannot.
    """
    follows_mix = options.finetune is None and not options.intercept
    if follows_mix:
        check_scenarios(run)
    elif options.finetune is not None:
        check_finetunable(run)
    unadapted = run.predictions_on(dataset, split, scenario_logits=follows_mix)
    if options.finetune is not None:
        return finetune(run.model, dataset, unadapted, options, options.finetune, run.calibration), unadapted
    return (follow_intercept if options.intercept else follow_mix)(unadapted, options), unadapted


def evaluate_adapted(
    run: Run, split: Split, options: AdaptOptions, dataset: Dataset | None = None, resamples: int = RESAMPLES
) -> Evaluation:
    """Measure the kept model on the way through a split; the result is not kept in the folder.

    Args:
        run: a trained run.
        split: of the dataset.
        options: how it adapts.
        dataset: another one than the run's own, see `Run.readable`.
        resamples: of users.

    Raises:
        RunError: if the folder holds no trained run, the split is empty, or there are no scenarios to follow.
        DatasetError: if the model cannot be asked about the dataset.
    """
    dataset = run.readable(dataset, split)
    followed, unadapted = adapted(run, dataset, split, options)
    draws, protocol = UserDraws(unadapted.user, resamples), protocol_line(dataset, split)
    pair = [resample_model(one.sample(), draws, ["auc", "logloss"]) for one in (followed.predictions, unadapted)]
    state = followed.state
    figures = AdaptationFigures(
        options=options.model_dump(mode="json"),
        gained={name: difference(pair[0], pair[1], name) for name in ("auc", "logloss")},
        log_weight=None if state is None else state.mix[:-2],
        temperature=None if state is None else state.mix[-2],
        level=None if state is None else state.mix[-1],
        trust=None if state is None else state.weight,
        answered=None if state is None else state.requests,
    )
    late = f"answers count {options.answers_after:g} s after their request"
    found = measure(replace(followed.predictions, uncalibrated=None), split, f"{protocol}; {late}", draws)
    weights, before = {"weights": run.model_checksum}, measure(unadapted, split, protocol, draws)
    return found.model_copy(update=weights | {"adaptation": figures, "unadapted": before.model_copy(update=weights)})


def check_finetunable(run: Run) -> None:
    """Raise `RunError` unless the run's model can go on learning."""
    model = run.experiment.model
    if not model.by_gradient:
        raise RunError(f"{run.path}: {model.name} is not trained by gradient descent: adapt it by `intercept`")


def has_mix(run: Run) -> bool:
    """Whether the run's model has scenarios whose mix can be followed."""
    return (run.model.scenario_count() or 1) > 1


def check_scenarios(run: Run) -> None:
    """Raise `RunError` unless the run's model has scenarios whose mix can be followed."""
    if has_mix(run):
        return
    options = run.experiment.model
    why = "has one scenario" if options.name == "musenet" else "mixes no scenarios"
    if isinstance(getattr(run.model, "scenario", None), PredefinedScenario):
        why = "reads the scenario from a column and predicts for that one only"
    ways = "`finetune` or `intercept`" if options.by_gradient else "`intercept`"
    raise RunError(
        f"{run.path}: {options.name} {why}, so there is no mix to adapt: evaluate it without --adapt, or adapt it by "
        f"{ways}"
    )
