"""A log played to a service in order of time, and what the run itself says of the same requests."""

from typing import Any

import numpy as np
import torch
from starlette.testclient import TestClient

from musenet.dataset.builder import BatchBuilder
from musenet.dataset.roles import MICROSECONDS
from musenet.runs.run import load_model
from serving.apps import plain_request
from serving.exports import Exported


def replay(
    client: TestClient, exported: Exported, events: list[dict[str, Any]], rows: list[int]
) -> dict[int, list[float]]:
    """The scores of each request, asked once all events before it were sent."""
    times = np.asarray(exported.dataset.requests.time)
    served, sent = {}, 0
    for row in sorted(rows, key=lambda row: int(times[row])):
        until = sent
        while until < len(events) and float(events[until]["time"]) < times[row] / MICROSECONDS:
            until += 1
        for begin in range(sent, until, 500):
            answer = client.post("/events", json={"events": events[begin : min(begin + 500, until)]})
            assert answer.status_code == 200, answer.text
        sent = until
        answer = client.post("/score", json=plain_request(exported, row))
        assert answer.status_code == 200, answer.text
        served[row] = answer.json()["scores"]
    return served


def offline_scores(exported: Exported, rows: list[int]) -> dict[int, list[float]]:
    """By the model in the run folder, on the dataset."""
    model, dataset = load_model(exported.run.folder), exported.run.dataset
    builder = BatchBuilder(dataset)
    with torch.no_grad():
        return {row: torch.sigmoid(model(builder.build(np.array([row]))).logit.double()).tolist() for row in rows}
