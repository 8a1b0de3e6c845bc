"""What a candidate's place in its list is worth where people touch items seconds before they click.

    python benchmarks/relative_inputs.py --requests 6000

Generates a log of lists: a user touches some items, seconds apart, the list is sorted anew with the touched ones in
front, latest first, and the click goes mostly to the item touched last, else to one that is cheap among those shown.
Lists have a price level of their own and users their own pace, so neither a price nor the seconds since a touch say
much by themselves. Three models are trained with and without `features.relative`, and without it once more on recency
as the logarithm of days, as it was once; their test AUCs are printed.
"""

from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import numpy as np
import polars as pl
import typer

import musenet
from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.inputs.repeat_features import repeat_features

START = 1_704_067_200
DAYS, HOTELS, SHOWN = 10, 400, 20
MODELS = {
    "base_model": {"name": "base_model"},
    "dcn_v2": {"name": "dcn_v2"},
    "musenet soft": {"name": "musenet", "assignment": "soft", "scenarios": 4, "likelihood": "request"},
}


def generate(folder: Path, requests: int, seed: int = 1) -> None:
    """Write `impressions.parquet` and `touches.parquet`, a user for every three requests."""
    random = np.random.default_rng(seed)
    impressions, touches = [], []
    for request in range(requests):
        user = f"u{request % max(requests // 3, 1)}"
        now = START + request * DAYS * 86_400 / requests
        shown = random.choice(HOTELS, size=random.integers(5, SHOWN + 1), replace=False)
        price = np.exp(random.normal(5, 1) + random.normal(0, 0.3, len(shown)))
        # Someone at a slow pace touched the last item when another has long forgotten theirs.
        pace = np.exp(random.normal(4, 2))
        count = int(random.integers(0, min(6, len(shown))))
        touched = random.choice(len(shown), size=count, replace=False)
        ago = np.cumsum(1 + random.exponential(pace, count))
        touches += [(user, f"h{shown[place]}", now - back, "touch") for place, back in zip(touched, ago, strict=True)]
        utility = -1.5 * (np.log(price) - np.log(price).mean()) / 0.3
        utility[touched] += 1.0
        if count:
            utility[touched[0]] += 3.0
        clicked = int(np.argmax(utility + random.gumbel(size=len(shown)) * 1.5))
        order = [*touched, *np.setdiff1d(np.arange(len(shown)), touched)]
        impressions += [
            (user, f"h{shown[place]}", now, int(place == clicked), request, price[place], rank)
            for rank, place in enumerate(order)
        ]
    columns = ["user", "hotel", "shown_at", "clicked", "search", "price", "rank"]
    pl.DataFrame(impressions, schema=columns, orient="row").write_parquet(folder / "impressions.parquet")
    pl.DataFrame(touches, schema=["user", "hotel", "at", "kind"], orient="row").write_parquet(
        folder / "touches.parquet"
    )


def experiment(folder: Path, relative: bool, epochs: int) -> Experiment:
    """The three models on this log, with places in the list or without."""
    content = {
        "name": "relative" if relative else "plain",
        "data": {
            "source": "own_files",
            "impressions": {
                "path": str(folder / "impressions.parquet"),
                "user": "user",
                "item": "hotel",
                "time": "shown_at",
                "label": "clicked",
                "request": "search",
            },
            "events": {
                "path": str(folder / "touches.parquet"),
                "user": "user",
                "item": "hotel",
                "time": "at",
                "kind": "kind",
            },
        },
        "features": {"candidate": [{"price": {"numeric": "log"}}, {"rank": "position"}], "relative": relative},
        "history": {"columns": ["hotel"], "length": 10, "kinds": ["touch"]},
        "repeat": {"key": ["hotel"], "kinds": ["touch"]},
        "split": {"test": "2 days", "valid": "1 day"},
        "model": {"name": "base_model"},
        "training": {"epochs": epochs, "batch_size": 512, "learning_rate": 0.002},
        "compare": {"models": MODELS, "seeds": 1, "reference": "musenet soft", "base": "base_model"},
    }
    return validate_experiment(content, "relative inputs")


def recency_in_days(indicator: np.ndarray, count: np.ndarray, recency: np.ndarray) -> np.ndarray:
    """As `repeat_features`, but recency is log(1 + days), which tells nothing apart below a day."""
    features = repeat_features(indicator, count, recency)
    features[:, 2] = np.log1p(np.where(indicator > 0, recency, 0.0) / 86_400)
    return features


def measure(folder: Path, requests: int, epochs: int) -> dict[str, tuple[float, float, float]]:
    """Test AUC of each model on recency in days, on recency in seconds, and with places in the list."""
    folder.mkdir(parents=True, exist_ok=True)
    generate(folder, requests)

    def aucs(name: str, *, relative: bool) -> dict[str, float]:
        place = folder / name
        comparison = musenet.compare(experiment(folder, relative, epochs), place / "runs", dataset=place / "dataset")
        return {row.name: row.auc.mean for row in comparison.models}

    with patch("musenet.dataset.builder.repeat_features", recency_in_days):
        days = aucs("days", relative=False)
    plain, relative = aucs("plain", relative=False), aucs("relative", relative=True)
    return {name: (days[name], plain[name], relative[name]) for name in MODELS}


def main(
    work: Annotated[Path, typer.Option(help="where the log, datasets and runs go")] = Path("runs/relative-inputs"),
    requests: Annotated[int, typer.Option(help="lists to generate")] = 6_000,
    epochs: Annotated[int, typer.Option(help="how often each model goes through the log")] = 4,
) -> None:
    """Print AUC on recency in days, in seconds, and with places in the list, for three models."""
    for name, (days, plain, relative) in measure(work, requests, epochs).items():
        typer.echo(f"{name}: recency in days {days:.4f}, in seconds {plain:.4f} ({plain - days:+.4f}),")
        typer.echo(f"  with places in the list {relative:.4f} ({relative - plain:+.4f})")


if __name__ == "__main__":
    typer.run(main)
