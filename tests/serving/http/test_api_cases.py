"""Whatever is sent, valid by the API's description or not, no answer is a 5xx, and every refusal names its field."""

from pathlib import Path

import pytest

from musenet.serving.http.app import create_app
from musenet.serving.service.service import Service
from serving.exports import Exported

pytestmark = pytest.mark.slow


def test_no_case_breaks_the_service(exported: Exported, tmp_path: Path) -> None:
    from serving.api_cases import check_cases  # which takes seconds, in every process that looks for tests

    service = Service(exported.folder, str(tmp_path / "history.sqlite"))
    seen = check_cases(create_app(service), 500)
    assert seen.total() >= 490
    assert seen[200] > 20
    assert seen[422] > 20
    service.close()
