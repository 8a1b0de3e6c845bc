"""The objects below one address of a bucket, by names as of files in a folder; fsspec speaks to the server."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from musenet.errors import UserError, missing_extra, one_line
from musenet.files import full_disk_explained

CLAIM = "writer.json"
"""The object that says who writes a run; no part of it."""
_VERSIONS = ("etag", "md5hash", "content_md5", "lastmodified", "last_modified", "created")


class Seen(NamedTuple):
    """What a listing says of an object."""

    size: int
    version: str
    """Changes with what it holds: its etag, or whatever of that kind the server tells."""


class Bucket:
    """The objects below an address.

    Args:
        url: the address.

    Raises:
        UserError: if what speaks to such servers is not installed; every call, if the server does not do what is asked.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise missing_extra(f"{url} needs fsspec's file systems", "cloud") from error
        try:
            with self._reaching():
                self._files, base = url_to_fs(url)
        except ImportError as error:
            raise missing_extra(f"{url} needs {one_line(error)}", "cloud") from error
        self._base = str(base).rstrip("/")

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (UserError, ImportError):
            raise
        except Exception as error:  # each file system raises what its own libraries do
            raise UserError(
                f"{self.url} cannot be reached ({one_line(error) or type(error).__name__}): check the address, and "
                "what lets you read and write it"
            ) from error

    def listing(self) -> dict[str, Seen]:
        """Every object, by its name."""
        with self._reaching():
            self._files.invalidate_cache()
            found = self._files.find(self._base, detail=True)
        named = {path.removeprefix(f"{self._base}/"): info for path, info in found.items() if path != self._base}
        return {name: _seen(info) for name, info in named.items() if name != CLAIM and not name.endswith("/")}

    def read(self, name: str) -> bytes:
        """What an object holds."""
        with self._reaching():
            return bytes(self._files.cat_file(self._of(name)))

    def claimed_by(self) -> bytes | None:
        """What `CLAIM` holds; None if it is not there."""
        with self._reaching():
            try:
                return bytes(self._files.cat_file(self._of(CLAIM)))
            except FileNotFoundError:
                return None

    def claim(self, content: bytes, *, over: bool) -> bool:
        """Write `CLAIM`, over another one or only if there is none; whether it is ours now."""
        with self._reaching():
            try:
                self._files.pipe_file(self._of(CLAIM), content, mode="overwrite" if over else "create")
            except FileExistsError:
                return False
        return True

    def release(self) -> None:
        """Remove `CLAIM`."""
        self.delete([CLAIM])

    def download(self, names: Sequence[str], folder: Path) -> None:
        """Write objects to a folder, under their names."""
        paths = [folder / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        if names:
            with self._reaching(), full_disk_explained(folder):
                self._files.get([self._of(name) for name in names], [str(path) for path in paths])

    def upload(self, file: Path, name: str) -> Seen:
        """Write an object, whole or not at all."""
        with self._reaching():
            self._files.put_file(str(file), self._of(name))
            return _seen(self._files.info(self._of(name)))

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; what is gone already is."""
        for name in names:
            with self._reaching():
                try:
                    self._files.rm_file(self._of(name))
                except FileNotFoundError:
                    continue

    def _of(self, name: str) -> str:
        return f"{self._base}/{name}"


def _seen(info: Mapping[str, Any]) -> Seen:
    told = {str(key).lower(): value for key, value in info.items()}
    version = next((told[key] for key in _VERSIONS if told.get(key)), "")
    return Seen(int(info["size"]), str(version))
