"""What an export says of its scenarios."""

import json
from typing import Any

from pydantic import BaseModel, Field

from musenet.serving.manifest import SCENARIOS
from musenet.serving.scorer.scorer import Scorer


class ScenarioSentence(BaseModel):
    """A scenario in words."""

    scenario: int = Field(description="from 0 on")
    name: str = Field("", description="made from what sets it apart, or given by people; empty in old exports")
    share: float = Field(description="of the requests of the test period")
    sentence: str


class ScenariosAnswer(BaseModel):
    """The scenarios of the model in use."""

    model: str
    count: int = Field(description="how many the model tells apart; 0 for a model without")
    scenarios: list[ScenarioSentence] = Field(description="empty where the export holds no description")
    html: str | None = Field(None, description="the report's section on scenarios")
    figures: dict[str, Any] | None = Field(None, description="its figures by name, for plotly")


def read_scenarios(scorer: Scorer) -> ScenariosAnswer:
    """The description that came with the export."""
    manifest = scorer.manifest
    content: dict[str, Any] = {"scenarios": []}
    if SCENARIOS in manifest.checksums:
        content = json.loads((scorer.folder / SCENARIOS).read_text(encoding="utf-8"))
    return ScenariosAnswer(model=scorer.version, count=manifest.scenarios or 0, **content)
