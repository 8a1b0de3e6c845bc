"""Files of buckets and servers, handed to DuckDB through fsspec."""

from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

PREFIX = "fsspec://"
"""Before a file's URL: DuckDB would read `s3://` by an extension of its own, which it downloads."""


class RemoteFiles(AbstractFileSystem):  # type: ignore[misc]
    """Every file system that fsspec knows, by whole URLs; of what DuckDB asks it answers what reading needs."""

    protocol = "fsspec"
    cachable = False

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file itself: patterns were resolved before."""
        return [path]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """A file's bytes; it is never written to."""
        files, name = url_to_fs(path.removeprefix(PREFIX))
        return files.open(name, mode)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What its file system says of a file."""
        files, name = url_to_fs(path.removeprefix(PREFIX))
        return dict(files.info(name))

    def modified(self, path: str) -> Any:
        """When a file was written."""
        files, name = url_to_fs(path.removeprefix(PREFIX))
        return files.modified(name)
