"""The report's section on scenarios alone, for the page of a service."""

import json
from importlib.util import find_spec
from typing import Any

from musenet.reporting.contents import SPLIT, comparison_of, scenario_facts
from musenet.runs.run import Run


def scenario_fragment(run: Run) -> dict[str, Any] | None:
    """Each scenario in a sentence, and the section as HTML with its figures; None for a run without scenarios.

    Returns:
        `scenarios`: number and name (as `musenet scenarios` writes them), share and sentence of each; `html`;
        `figures`: data and layout by name. None too where the extra `report` is not installed, or the test split is
        empty.
    """
    installed = find_spec("jinja2") is not None and find_spec("plotly") is not None
    if not installed or not run.dataset.manifest.splits[SPLIT].impressions:
        return None
    facts = scenario_facts(run, comparison_of(run))
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
                "name": portrait.name,
                "share": portrait.share,
                "sentence": sentences.scenario_sentence(portrait, facts),
            }
            for portrait in facts.portraits
        ],
        "html": render_scenarios(facts, pictures),
        "figures": {picture.name: json.loads(picture.figure.to_json()) for picture in pictures},
    }
