"""What a place means: a folder of this machine, or an address in a bucket and the folder of its local copy.

The copy of `s3://bucket/runs/hotels` is `<cache>/copies/s3/bucket/runs/hotels`, so that either tells the other, and
folders beside or inside a copy have their addresses too. All but this package works on the folders.
"""

import os
import re
from pathlib import Path

from musenet.errors import UserError

AnyPlace = str | os.PathLike[str]
# `Path("s3://bucket")` has one slash less: pathlib folds them.
_SCHEMES = r"(s3a?|gs|gcs|az|abfss?|https?|memory)"
_URL = re.compile(rf"^{_SCHEMES}:/+(.*)", re.DOTALL)
_FOLDED = re.compile(rf"\b{_SCHEMES}:/(?=[^/\s])")
_READ_ALONE = ("http", "https")


def url_of(place: AnyPlace) -> str | None:
    """The address that is meant; None for a path of this machine.

    >>> url_of(Path("s3://bucket/log"))
    's3://bucket/log'
    """
    found = _URL.match(os.fspath(place))
    return None if found is None else f"{found[1]}://{found[2]}"


def is_url(text: str) -> bool:
    """Whether a path is the address of something on another machine."""
    return url_of(text) is not None


def cache_folder() -> Path:
    """Where copies are kept: `$MUSENET_CACHE`, or `~/.cache/musenet`."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "musenet"
    return Path(os.environ.get("MUSENET_CACHE") or usual).expanduser().resolve()


def copy_of(place: AnyPlace) -> Path:
    """The folder that stands for a place: a path itself, of an address the folder of its copy.

    Raises:
        UserError: if datasets, runs and exports cannot lie there.
    """
    url = url_of(place)
    if url is None:
        return Path(place)
    scheme, _, rest = url.partition("://")
    parts = [part for part in rest.split("/") if part not in ("", ".")]
    if scheme in _READ_ALONE or not parts or ".." in parts:
        raise UserError(f"{url}: datasets, runs and exports are folders or buckets, such as s3://bucket/runs/hotels")
    return cache_folder().joinpath("copies", scheme, *parts)


def address(path: AnyPlace) -> str:
    """What people and files call a place: the address whose copy, or part of whose copy, it is, or the path itself."""
    return addresses_in(os.fspath(path))


def is_copy(path: Path) -> bool:
    """Whether a path is that of a copy, or inside one."""
    return path.is_relative_to(cache_folder() / "copies")


def addresses_in(text: str) -> str:
    """A text with addresses in place of the paths of their copies, and of what pathlib makes of them."""
    text = re.sub(re.escape(f"{cache_folder() / 'copies'}/") + r"(\w+)/", r"\1://", text)
    return _FOLDED.sub(r"\1://", text)


def here(place: AnyPlace) -> Path:
    """The path of a place that has to be on this machine; raises `UserError` if it is an address."""
    url = url_of(place)
    if url is not None:
        raise UserError(f"{url}: this is written to local folders only: give a folder")
    return Path(place)
