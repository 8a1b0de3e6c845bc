"""How long to train on a log of this size, and what to compare."""

from musenet.sources.guess.periods import Periods

_LEAST_BATCH, _LARGEST_BATCH = 64, 4096
_REQUESTS_PER_BATCH = 16
_STEPS_PER_EPOCH, _STEPS = 1000, 2000
_FEWEST_EPOCHS, _MOST_EPOCHS = 2, 10
_MOSTLY = 0.5
_ENOUGH_FOR_USERS = 20_000
"""Impressions of training: of fewer, users' ids are left out (docs/your-own-log.md has what that was worth)."""


def write_model(periods: Periods) -> list[str]:
    """MUSENET, without the ids that training does not know of later impressions or cannot learn."""
    reasons = _ids_left_out(periods)
    doubt = [f"# ? ids without {' and '.join(reasons)}: {'; '.join(reasons.values())}"] if reasons else []
    return [*doubt, f"model: &musenet {{name: musenet, assignment: soft, scenarios: 4{_ids(periods)}}}"]


def _ids_left_out(periods: Periods) -> dict[str, str]:
    """Why a side's ids are no features, by side."""
    reasons = {
        side: f"{share:.0%} of the later impressions are of {side}s new by then"
        for side, share in periods.unseen.items()
        if share > _MOSTLY
    }
    if "user" not in reasons and periods.train_rows < _ENOUGH_FOR_USERS:
        told = f"training holds {periods.train_rows:,} impressions, too few to learn a vector of each user"
        reasons = {"user": f"{told}, which would memorise them", **reasons}
    return reasons


def _ids(periods: Periods) -> str:
    """The option of every model, since rows that see other ids cannot be compared; nothing where all are seen."""
    left_out = _ids_left_out(periods)
    seen = [side for side in periods.unseen if side not in left_out]
    return f", ids: [{', '.join(seen)}]" if left_out else ""


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


def write_compare(periods: Periods, *, has_repeats: bool, describes_events: bool) -> list[str]:
    """What people would use instead, the controls that a gain has to beat, and MUSENET; all see the same ids.

    Args:
        periods: what training would hold.
        has_repeats: whether the log has a repeat key.
        describes_events: whether the history says more of an event than its item.
    """
    ids = _ids(periods)
    plain = f"{{name: base_model{ids}}}"
    models = {
        "base model": f"{{name: base_model{ids}, repeat_features: false}}" if has_repeats else plain,
        **({"base model (repeat features)": plain} if has_repeats else {"ncf": f"{{name: ncf{ids}}}"}),
        "wide and deep": f"{{name: wide_deep{ids}}}",
        # Without the items' ids it has nothing to attend to where events are told by these alone.
        **({"din": f"{{name: din{ids}}}"} if describes_events or "item" not in _ids_left_out(periods) else {}),
        "dcn v2": f"{{name: dcn_v2{ids}, low_rank: 64}}",
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
