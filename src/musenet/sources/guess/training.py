"""How long to train on a log of this size, and what to compare."""

from musenet.sources.guess.periods import Periods

_LEAST_BATCH, _LARGEST_BATCH = 64, 4096
_REQUESTS_PER_BATCH = 16
_STEPS_PER_EPOCH, _STEPS = 1000, 2000
_FEWEST_EPOCHS, _MOST_EPOCHS = 2, 10
_MOSTLY = 0.5


def write_model(periods: Periods) -> list[str]:
    """MUSENET, without the ids that training does not know of later impressions."""
    unseen = [side for side, share in periods.unseen.items() if share > _MOSTLY]
    known = [side for side in periods.unseen if side not in unseen]
    ids = f", ids: [{', '.join(known)}]" if unseen else ""
    told = ", ".join(
        f"{periods.unseen[side]:.0%} of the later impressions are of {side}s new by then" for side in unseen
    )
    return [
        *([f"# ? ids without {' and '.join(unseen)}: {told}"] if told else []),
        f"model: &musenet {{name: musenet, assignment: soft, scenarios: 4{ids}}}",
    ]


def write_training(periods: Periods, negatives: int) -> list[str]:
    """A batch of some requests, about a thousand of them an epoch, and epochs for two thousand steps."""
    rows = max(1, periods.train_rows + negatives * periods.train_requests)
    largest = _REQUESTS_PER_BATCH * rows / max(1, periods.train_requests)
    wanted = min(max(rows / _STEPS_PER_EPOCH, largest, _LEAST_BATCH), _LARGEST_BATCH)
    batch = 1 << (int(wanted).bit_length() - 1)
    steps = max(1, rows // batch)
    epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, -(-_STEPS // steps)))
    validations = ", validations_per_epoch: 1" if epochs > _FEWEST_EPOCHS else ""
    return [
        f"# some {steps:,} steps an epoch; the weights kept are those of the best validation",
        f"training: {{epochs: {epochs}, batch_size: {batch}, learning_rate: 0.001, embedding_learning_rate: 0.003, "
        f"final_learning_rate: 0.02{validations}}}",
    ]


def write_compare(*, has_repeats: bool) -> list[str]:
    """Eight rows: what people would use instead, the controls that a gain has to beat, and MUSENET."""
    models = {
        "base model": "{name: base_model, repeat_features: false}" if has_repeats else "{name: base_model}",
        **({"base model (repeat features)": "{name: base_model}"} if has_repeats else {"ncf": "{name: ncf}"}),
        "wide and deep": "{name: wide_deep}",
        "din": "{name: din}",
        "dcn v2": "{name: dcn_v2, low_rank: 64}",
        "one scenario (parameters of four)": "{<<: *musenet, scenarios: 1, parameters_of: 4}",
        "four (uniform)": "{<<: *musenet, assignment: uniform}",
        "musenet soft": "*musenet",
    }
    return [
        "compare: # what `musenet compare` trains: other models and controls, each with every seed",
        "  seeds: 3",
        "  reference: musenet soft",
        "  base: base model",
        "  models:",
        *(f"    {label}: {options}" for label, options in models.items()),
    ]
