"""Cases that Schemathesis makes of the API's own description, valid and not, and what must hold of every answer."""

from collections import Counter
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

HERE = {"host": "localhost"}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def check_cases(app: Any, cases: int) -> Counter[int]:
    """Send this many cases, spread over operations and both modes; how many answers had which status.

    Raises:
        AssertionError: for an answer of ours that says nothing of the field, and what Schemathesis raises for a 5xx or
            an answer that is not as described.
    """
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=HERE)
    everything: Any = schema.get_all_operations()
    operations = [found.ok() for found in everything]
    posts = [operation for operation in operations if operation.method == "post"]
    seen: Counter[int] = Counter()
    for operation in operations:
        share = cases // (2 * len(posts)) if operation in posts else 2
        for mode in GenerationMode:
            if operation in posts or mode is GenerationMode.POSITIVE:
                _check(operation.as_strategy(generation_mode=mode), share, seen)
    return seen


def _check(strategy: Any, cases: int, seen: Counter[int]) -> None:
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def send(case: Any) -> None:
        answer = case.call(headers=HERE)
        seen[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        if 400 <= answer.status_code < 500:
            assert answer.json()["errors"], "a refusal says what is wrong"
            assert all(one["field"] and one["reason"] for one in answer.json()["errors"])

    send()
