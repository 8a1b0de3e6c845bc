"""One local copy: what it is known to hold, who uses it; and how much all copies may be together."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from musenet.errors import UserError
from musenet.files import write_json
from musenet.options import bytes_in
from musenet.storage.addresses import address, cache_folder, copy_of

USUAL_SIZE = "100GB"

_held: dict[Path, int] = {}
"""Of the copies that this process uses, the handles that keep others from removing them."""


class Known(NamedTuple):
    """A file of a copy as it was when it last was what the bucket has."""

    size: int
    version: str
    """Of the object."""
    time: int
    """Of the file, in nanoseconds: another one says that it was changed here."""


class Copy:
    """The local copy of an address.

    Args:
        folder: the copy's, see `copy_of`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = address(folder)
        name = hashlib.sha256(self.url.encode()).hexdigest()[:32]
        self._state = cache_folder() / "state" / name
        self._state.parent.mkdir(parents=True, exist_ok=True)

    def known(self) -> dict[str, Known]:
        """The files that were as in the bucket, by name."""
        try:
            content = json.loads(self._file("json").read_text(encoding="utf-8"))
            return {name: Known(*known) for name, known in content["files"].items()}
        except (OSError, ValueError, TypeError, KeyError):
            return {}  # then everything is fetched anew

    def remember(self, files: dict[str, Known]) -> None:
        """Keep what `known` tells."""
        write_json(self._file("json"), {"url": self.url, "files": {name: list(one) for name, one in files.items()}})

    def files(self) -> dict[str, os.stat_result]:
        """What lies in the folder, hidden files left out."""
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        named = {path.relative_to(self.folder).as_posix(): path for path in paths}
        return {name: path.stat() for name, path in named.items() if "/." not in f"/{name}"}

    def hold(self) -> None:
        """Keep it from being removed while this process lives."""
        if self._file("used") not in _held:
            _held[self._file("used")] = _locked(self._file("used"), fcntl.LOCK_SH)

    @contextmanager
    def transferring(self) -> Iterator[None]:
        """One process at a time fetches or sends; others wait."""
        handle = _locked(self._file("transfer"), fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(handle)

    @contextmanager
    def written_alone(self) -> Iterator[None]:
        """Be the one process of this machine that writes to it; raises `UserError` if another one is."""
        try:
            with self.transferring():  # in which others look whether there is a writer
                handle = _locked(self._file("writer"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process of this machine is working in {self.url}: wait for it, or name another path"
            ) from error
        try:
            yield
        finally:
            os.close(handle)

    def is_being_written(self) -> bool:
        """Whether a process of this machine, maybe this one, writes to it, and so is ahead of the bucket; asked while
        `transferring`."""
        return self._is_locked("writer")

    def make_room(self, size: int, *, refuse: bool = True) -> None:
        """Remove the copies that were used longest ago until all are within the bound, this one with so many bytes.

        Raises:
            UserError: if that cannot be, and `refuse`.
        """
        bound, others = cache_size(), [other for other in _copies() if other.url != self.url]
        sizes = {other.url: sum(one.size for one in other.known().values()) for other in others}
        total = size + sum(sizes.values())
        for other in others:
            if total > bound and other._removed(
                [one for one in (*others, self) if one.url.startswith(f"{other.url}/")]
            ):
                total -= sizes[other.url]
        if total > bound and refuse:
            raise UserError(
                f"{self.url} has {size / 1e9:,.2f} GB, for which the cache {cache_folder()} has no room beside what is "
                f"in use: raise MUSENET_CACHE_SIZE ({bound / 1e9:,.2f} GB)"
            )

    def _removed(self, inside: Sequence["Copy"]) -> bool:
        """Forget it and remove its files, unless it or a copy inside is in use; whether that was done."""
        try:
            handle = _locked(self._file("used"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            if any(one._is_locked("used") for one in inside):
                return False
            for name in self.known():
                (self.folder / name).unlink(missing_ok=True)
            for path in (*sorted(self.folder.rglob("*"), reverse=True), self.folder):
                with suppress(OSError):  # not empty: of a copy inside, or not of the bucket
                    path.rmdir()
            self._file("json").unlink(missing_ok=True)
            return True
        finally:
            os.close(handle)

    @contextmanager
    def beside(self) -> Iterator[Path]:
        """An empty folder on the same disk, gone in the end."""
        folder = self._file("fetched")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _file(self, ending: str) -> Path:
        return self._state.with_suffix(f".{ending}")

    def _is_locked(self, purpose: str) -> bool:
        try:
            os.close(_locked(self._file(purpose), fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            return True
        return False


def cache_size() -> int:
    """Bytes that all copies may have together, `$MUSENET_CACHE_SIZE`; raises `UserError` if that is no size."""
    text = os.environ.get("MUSENET_CACHE_SIZE") or USUAL_SIZE
    size = bytes_in(text)
    if size is None:
        raise UserError(f"MUSENET_CACHE_SIZE: '{text}' is not a size: write it as {USUAL_SIZE}")
    return size


def _copies() -> list[Copy]:
    """All copies, those first that were used longest ago."""
    found: list[tuple[float, Copy]] = []
    for record in (cache_folder() / "state").glob("*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):  # another process may remove one just now
            copy = Copy(copy_of(json.loads(record.read_text(encoding="utf-8"))["url"]))
            found.append((record.stat().st_mtime, copy))
    return [copy for _, copy in sorted(found, key=lambda one: one[0])]


def _locked(file: Path, how: int) -> int:
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, how)
    except BaseException:
        os.close(handle)
        raise
    return handle
