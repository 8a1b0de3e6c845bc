"""Whether there is a run in a folder, found out without loading what opens it."""

from pathlib import Path

from musenet.errors import RunError

DESCRIPTION = "run.json"


def holds_run(path: Path) -> bool:
    """Whether the folder holds a run."""
    return (path / DESCRIPTION).is_file()


def check_run_folder(path: Path) -> None:
    """Raise `RunError` unless the folder holds a run."""
    if not holds_run(path):
        what = f"holds no run (no {DESCRIPTION})" if path.exists() else "does not exist"
        raise RunError(f"{path} {what}: give the folder that `musenet train` wrote")
