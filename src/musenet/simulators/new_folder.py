"""A folder of files that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musenet.errors import UserError


@contextmanager
def new_folder(out: Path, what: str) -> Iterator[Path]:
    """Yield a folder beside `out` to write to; it takes the place of `out` once the block ends without an error.

    Nothing is left behind if the block fails.

    Args:
        out: where the files go in the end; may exist if it is an empty folder.
        what: what the files are, for the sentence that says they could not be written.

    Raises:
        UserError: if `out` holds something, or the disk does not take the files.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} already exists and is not an empty folder: name another, or remove it first.")
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, out)
    except OSError as error:
        raise UserError(f"{what} could not be written to {out}: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
