"""Writing files so that a reader sees the old one or the new one, never half of it."""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musenet.errors import UserError

LONGEST_NAME = 60
"""Characters of a name that becomes that of a file: systems take 255 bytes, and a character may have four."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` once the block ends without an error.

    The folder is made if need be; nothing is left behind if the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn a full disk into one sentence.

    Raises:
        UserError: saying which folder's disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full_disk(folder) from error


def full_disk(folder: Path) -> UserError:
    """Says that the disk that holds a folder is full."""
    return UserError(f"the disk that holds {folder} is full: free some space and try again")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of `replacing` in a folder that only this process writes to."""
    for file in folder.glob(".*"):
        if re.fullmatch(r"\..+\.\d+-[0-9a-f]{8}", file.name):
            file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace the file's content, UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Replace the file's content by JSON, indented; not-a-number becomes null, as JSON knows no other way."""
    write_text(path, json.dumps(json_ready(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def json_ready(content: Any) -> Any:
    """The same content as JSON can hold it: paths as text, tuples as lists, floats that are not finite as null."""
    if isinstance(content, dict):
        return {str(key): json_ready(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [json_ready(value) for value in content]
    if isinstance(content, float):
        return content if content - content == 0 else None
    return str(content) if isinstance(content, Path) else content


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
