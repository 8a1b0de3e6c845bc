"""KuaiRand's files, as published or cut down to the last fourteen days, as clean tables with their own columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ibis.expr.types as ir

from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.files.cleaning import Sieve, Sifted, sift, sift_entities
from musenet.sources.files.columns import require
from musenet.sources.files.opening import LogFile, open_files
from musenet.sources.files.values import as_label, as_number, as_text
from musenet.sources.tables import CleaningRule

_KEY = "data.folder"
_WHERE = "docs/kuairand.md says where they come from"
_OUTCOMES = ("is_click", "long_view")
_TEXT = {"user_active_degree", "video_type", "upload_dt", "upload_type", "tag"}
"""Beside the columns that end in `_range`."""
_UNKNOWN = -124
"""What the user features hold where a value is unknown."""


@dataclass(frozen=True)
class Layout:
    """The names of files that belong together."""

    what: str
    logs: tuple[str, str]
    """In order of time."""
    users: str
    videos: str
    sequences: str | None = None
    """Long-watched videos of the time before the logs."""

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [*self.logs, self.users, self.videos, *([self.sequences] if self.sequences else [])]


def _published(version: str) -> Layout:
    return Layout(
        f"KuaiRand's published files (_{version})",
        (f"log_standard_4_08_to_4_21_{version}.csv", f"log_standard_4_22_to_5_08_{version}.csv"),
        f"user_features_{version}.csv",
        f"video_features_basic_{version}.csv",
    )


CUT_DOWN = Layout(
    "the cut-down files",
    ("val.parquet", "test.parquet"),
    "user_features_pure.parquet",
    "video_features_basic_pure.parquet",
    "user_sequences.parquet",
)
LAYOUTS = (CUT_DOWN, _published("pure"), _published("1k"))


@dataclass(frozen=True)
class KuaiRandFiles:
    """The files of one layout in their folder."""

    layout: Layout
    folder: Path

    @property
    def paths(self) -> list[Path]:
        """All that are read."""
        return [self.folder / name for name in self.layout.names]

    def logs(self, engine: Engine) -> Iterator[Sifted]:
        """The two logs: `user_id`, `video_id`, `time_ms`, `tab`, `is_click`, `long_view`, and `date`, `hourmin`."""
        for name in self.layout.logs:
            file = self._open(engine, name)
            sieve = Sieve(file)
            _read_whole_numbers(sieve, "user_id", "video_id", "time_ms", "tab", "date", "hourmin")
            for outcome in _OUTCOMES:
                require(file, outcome, _KEY)
                with sieve.explained(outcome, _KEY):
                    sieve.parsed(outcome, as_label(file.table[outcome], None), outcome, "0 or 1")
            yield sift(engine, "impressions", sieve)

    def sequences(self, engine: Engine) -> Sifted:
        """`user_id`, `last_time_ms` and the list `long_watch_seq`; of a layout that has them."""
        assert self.layout.sequences is not None
        file = self._open(engine, self.layout.sequences)
        sieve = Sieve(file)
        _read_whole_numbers(sieve, "user_id", "last_time_ms")
        require(file, "long_watch_seq", _KEY)
        sequence = file.table.long_watch_seq
        if not isinstance(sequence, ir.ArrayValue):
            raise DataError(f"{file.name}: column 'long_watch_seq' holds no lists: {_WHERE}")
        sieve.columns["long_watch_seq"] = sequence.cast("array<int64>")
        return sift(engine, "sequences", sieve)

    def users(self, engine: Engine) -> Sifted:
        """`user_id` and every other column of the user features; unknown values are missing."""
        sifted = _read_features(engine, "users", self._open(engine, self.layout.users), "user_id")
        numbers = [name for name in sifted.kept.columns if name != "user_id" and not _is_text(name)]
        unknown = {name: sifted.kept[name] == _UNKNOWN for name in numbers}
        if not unknown:
            return sifted
        counts = engine.row(sifted.kept.agg(**{name: rows.sum() for name, rows in unknown.items()}))
        rules = [
            CleaningRule("users", f"{name} is {_UNKNOWN}, unknown: made missing", count, False)
            for name, count in counts.items()
            if count
        ]
        kept = sifted.kept.mutate(**{name: sifted.kept[name].nullif(_UNKNOWN) for name in numbers})
        return Sifted(kept, sifted.refused, sifted.rules + rules)

    def videos(self, engine: Engine) -> Sifted:
        """`video_id` and every other column of the basic video features."""
        file = self._open(engine, self.layout.videos)
        require(file, "tag", _KEY)
        return _read_features(engine, "items", file, "video_id")

    def _open(self, engine: Engine, name: str) -> LogFile:
        return open_files(engine, _KEY, [self.folder / name])


def find_kuairand(folder: Path) -> KuaiRandFiles:
    """The files in a folder, or in the folder `data` inside it, as the published archive has them.

    Raises:
        DataError: if they are not there, incomplete, or of several layouts.
    """
    if not folder.is_dir():
        raise DataError(f"{_KEY}: there is no folder {folder}: put the files there; {_WHERE}")
    places = [KuaiRandFiles(layout, place) for place in (folder, folder / "data") for layout in LAYOUTS]
    lacking = [[path.name for path in files.paths if not path.is_file()] for files in places]
    complete = [files for files, missing in zip(places, lacking, strict=True) if not missing]
    if len(complete) > 1:
        raise DataError(
            f"{_KEY}: {folder} holds both {complete[0].layout.what} and {complete[1].layout.what}: keep one of them"
        )
    if complete:
        return complete[0]
    files, missing = min(zip(places, lacking, strict=True), key=lambda place: len(place[1]) / len(place[0].paths))
    if len(missing) == len(files.paths):
        raise DataError(f"{_KEY}: {folder} holds none of KuaiRand's files: {_WHERE}")
    raise DataError(f"{_KEY}: {files.folder} lacks {', '.join(missing)} of {files.layout.what}: {_WHERE}")


def _read_whole_numbers(sieve: Sieve, *names: str) -> None:
    for name in names:
        require(sieve.file, name, _KEY)
        with sieve.explained(name, _KEY):
            sieve.parsed(name, as_number(sieve.file.table[name], whole=True), name, "a whole number")


def _read_features(engine: Engine, relation: str, file: LogFile, key: str) -> Sifted:
    """One row per id; text stays text, everything else is a number."""
    sieve = Sieve(file)
    _read_whole_numbers(sieve, key)
    for name in file.table.columns:
        if name == key:
            continue
        if _is_text(name):
            sieve.columns[name] = as_text(file.table[name])
            continue
        with sieve.explained(name, _KEY):
            # Codes with gaps were written as floats; a duration may really have a fraction.
            number = as_number(file.table[name], whole=name != "video_duration")
        sieve.parsed(name, number, name, "a number", required=False)
    return sift_entities(engine, relation, sieve, key)


def _is_text(name: str) -> bool:
    return name in _TEXT or name.endswith("_range")
