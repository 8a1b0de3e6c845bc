"""Many cases that Schemathesis makes of the API's description, against an export.

python benchmarks/serving/api_cases.py export --cases 10000
"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from musenet.serving.http.app import create_app
from musenet.serving.service.service import Service
from serving.api_cases import check_cases


def main(
    export: Annotated[Path, typer.Argument(help="the folder that `musenet export` wrote")],
    cases: Annotated[int, typer.Option()] = 10_000,
) -> None:
    """Stops at the first answer that is a 5xx, not as described, or a refusal without a field."""
    with tempfile.TemporaryDirectory(prefix="musenet-") as folder:
        service = Service(export, f"{folder}/history.sqlite")
        seen = check_cases(create_app(service), cases)
        service.close()
    answers = ", ".join(f"{count:,} of {status}" for status, count in sorted(seen.items()))
    typer.echo(f"{seen.total():,} cases: {answers}; no 5xx, every refusal names its field")


if __name__ == "__main__":
    typer.run(main)
