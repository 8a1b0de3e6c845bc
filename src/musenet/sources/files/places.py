"""Where files may lie: folders of this machine, and buckets and servers that fsspec knows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import cast

from musenet.errors import DataError, UserError, one_line

_URL = re.compile(r"^(s3a?|gs|gcs|az|abfss?|https?|memory)://")


def is_url(text: str) -> bool:
    """Whether a path is the address of something on another machine."""
    return _URL.match(text) is not None


def whole(text: str, base: Path) -> str:
    """A path, relative ones from `base`; a URL as it stands."""
    return text if is_url(text) else str(base / Path(text).expanduser())


def place(key: str, text: str, base: Path) -> Path:
    """What a path or a URL means; a URL's place has the methods of a path.

    Raises:
        UserError: if what the URL needs is not installed.
        DataError: if it cannot be reached at all.
    """
    if not is_url(text):
        return Path(whole(text, base))
    try:
        from upath import UPath
    except ImportError as error:
        raise UserError(f"{key}: reading {text} needs fsspec's file systems: pip install 'musenet[cloud]'") from error
    try:
        found = UPath(text)
        found.fs.invalidate_cache()  # what it listed a while ago may have changed
    except ImportError as error:
        raise UserError(f"{key}: reading {text} needs {one_line(error)}: pip install 'musenet[cloud]'") from error
    return cast(Path, found)


def is_remote(path: Path) -> bool:
    """Whether it is a place of a URL."""
    return not isinstance(path, PurePath)


@contextmanager
def reaching(key: str, path: Path) -> Iterator[None]:
    """Turn whatever a file system says of a place that it does not reach into one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each file system raises what its own libraries do
        if not is_remote(path):
            raise
        raise DataError(
            f"{key}: {path} cannot be reached ({one_line(error)}): check the address, and what lets you read it"
        ) from error
