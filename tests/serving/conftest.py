"""One exported model that the tests of serving share."""

import pytest

from serving.exports import Exported, export_log


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_log(tmp_path_factory.mktemp("serving"))
