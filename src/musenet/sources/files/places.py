"""Where files may lie: folders of this machine, and buckets and servers that fsspec knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import cast

from musenet.errors import DataError, UserError, one_line
from musenet.storage.addresses import url_of


def whole(text: str, base: Path) -> str:
    """A path, relative ones from `base`; a URL as it stands."""
    return url_of(text) or str(base / Path(text).expanduser())


def place(key: str, text: str, base: Path) -> Path:
    """What a path or a URL means; a URL's place has the methods of a path.

    Raises:
        UserError: if what the URL needs is not installed.
        DataError: if it cannot be reached at all.
    """
    url = url_of(text)
    if url is None:
        return Path(whole(text, base))
    try:
        from upath import UPath
    except ImportError as error:
        raise UserError(f"{key}: reading {text} needs fsspec's file systems: pip install 'musenet[cloud]'") from error
    try:
        found = UPath(url)
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
