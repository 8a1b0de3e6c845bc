"""The report's section on scenarios alone, for the page of a service."""

import json
from importlib.util import find_spec
from typing import Any

from musenet.evaluation.draws import UserDraws
from musenet.evaluation.scoring import scoring_device
from musenet.reporting.comparison import find_comparison, read_comparison, row_of
from musenet.reporting.contents import RESAMPLES, SPLIT, ScenarioFacts, evaluation_of, scenario_facts
from musenet.runs.folder import RunFolder, load_model
from musenet.runs.run import predictions_of


def scenario_fragment(run: RunFolder) -> dict[str, Any] | None:
    """Each scenario in a sentence, and the section as HTML with its figures; None for a run without scenarios.

    Returns:
        `scenarios`: number (as `musenet scenarios` writes it), share and sentence of each; `html`; `figures`: data and
        layout by name. None too where the extra `report` is not installed, or the test split is empty.
    """
    installed = find_spec("jinja2") is not None and find_spec("plotly") is not None
    if not installed or not run.dataset.manifest.splits[SPLIT].impressions:
        return None
    facts = _facts(run)
    if facts is None:
        return None
    from musenet.reporting.figures.pictures import scenario_pictures
    from musenet.reporting.pages.html import render_scenarios
    from musenet.reporting.words import sentences

    pictures = list(scenario_pictures(facts))
    return {
        "scenarios": [
            {
                "scenario": portrait.scenario,
                "share": portrait.share,
                "sentence": sentences.scenario_sentence(portrait, facts),
            }
            for portrait in facts.portraits
        ],
        "html": render_scenarios(facts, pictures),
        "figures": {picture.name: json.loads(picture.figure.to_json()) for picture in pictures},
    }


def _facts(run: RunFolder) -> ScenarioFacts | None:
    predictions = predictions_of(run, SPLIT)
    file = find_comparison(run)
    own = None if file is None else row_of(read_comparison(file), run)
    model = load_model(run)[0].to(scoring_device(run.experiment.training))
    draws = UserDraws(predictions.user, RESAMPLES)
    return scenario_facts(run, model, predictions, draws, evaluation_of(run), None if own is None else own.agreement)
