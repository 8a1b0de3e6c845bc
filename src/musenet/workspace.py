"""A folder is made beside its target and renamed into place: nobody ever sees half of it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musenet.errors import DataError, DatasetError
from musenet.files import remove_leftovers, write_text

_RESULT, _REPLACED, _IDENTITY = "dataset", "replaced", "identity"
MANIFEST = "manifest.json"
"""What a finished folder has, whatever it holds."""
SPILLED = "spilled"
"""Where inside the workspace an engine puts what does not fit into memory."""


@contextmanager
def workspace(out: Path, identity: str) -> Iterator[Path]:
    """Hold the hidden folder beside `out` in which one process at a time prepares it.

    It is gone once the block ends, or refuses the user's data; whatever else ends the block leaves it there, so that
    the same preparation goes on from what was finished. What another preparation left is removed first, and a dataset
    that was about to be replaced is put back.

    Args:
        out: the dataset's folder.
        identity: equal for preparations that may go on from each other.

    Raises:
        DatasetError: if another process prepares the same folder, or `out` is something else than a dataset.
    """
    _check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name}.preparing"
    handle = _lock(folder, out)
    try:
        if (folder / _REPLACED).exists() and not out.exists():
            (folder / _REPLACED).rename(out)
        _keep_only(folder, identity)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    except (DataError, DatasetError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def _keep_only(folder: Path, identity: str) -> None:
    """Empty the folder unless it is of this preparation; what an engine had spilled is of no use to another one."""
    label = folder / _IDENTITY
    if not label.is_file() or label.read_text(encoding="utf-8") != identity:
        _empty(folder)
        write_text(label, identity)
    shutil.rmtree(folder / SPILLED, ignore_errors=True)
    remove_leftovers(folder)


def result_folder(work: Path) -> Path:
    """Where inside the workspace the new folder is made."""
    folder = work / _RESULT
    folder.mkdir(exist_ok=True)
    return folder


def install(work: Path, out: Path) -> None:
    """Rename the finished folder into the target's place."""
    if out.exists():
        out.rename(work / _REPLACED)
    (work / _RESULT).rename(out)


def _check_target(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / MANIFEST).exists()):
        raise DatasetError(f"{out} exists and is not a prepared dataset: name another folder, or remove it")


def _lock(folder: Path, out: Path) -> int:
    """An open handle that locks the folder until it is closed, by the system if the process is killed."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another process has just finished and removed it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise DatasetError(f"another process is preparing {out}: wait for it, or name another folder") from error
        try:
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
