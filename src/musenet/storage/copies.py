"""Datasets, runs and exports in buckets, as folders: fetched when they are opened, sent when they were written.

The bucket is what counts. What is opened is made like it, file by file, and compared with the checksums of its
manifest; what a killed process wrote and did not send is forgotten, but for a whole dataset or export of which the
bucket has no manifest yet. Of what is sent the manifest is the last, and it is taken away before anything that it
lists is changed: who reads sees a whole dataset or none.

A folder of this machine passes through all of it untouched.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from secrets import token_hex
from tempfile import TemporaryDirectory

from musenet.errors import RunError, UserError
from musenet.files import checksum
from musenet.storage.addresses import AnyPlace, address, cache_folder, copy_of, is_copy, url_of
from musenet.storage.bucket import Bucket, Seen
from musenet.storage.cache import Copy, Known
from musenet.workspace import MANIFEST

RUN = "run.json"
CHECKPOINT = "checkpoint.safetensors"
"""Of a run, what only training goes on from: three times the model."""
NOTES = "runs.txt"
"""What a dataset's folder on this machine says of runs here; not sent."""
_AGAIN = "prepare, train or export again; or if that is running now, try again when it is finished"


class _Claim:
    """That this process writes a run, said by an object beside it: whose content that is not is no longer the writer.

    Between a look at it and the end of what is sent then, nobody is kept from taking over.

    Args:
        bucket: the run's.
        over: whether another process's claim gives way, as that of a killed one has to.
    """

    def __init__(self, bucket: Bucket, *, over: bool) -> None:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        who = {"host": socket.gethostname(), "process": os.getpid(), "since": since, "token": token_hex(16)}
        self._bucket, self._over, self._content = bucket, over, json.dumps(who).encode()
        self._made = self._lost = False

    @property
    def is_held(self) -> bool:
        """Whether it was made, and was not found to be another's since."""
        return self._made and not self._lost

    def hold(self) -> None:
        """Claim it, or see that the claim still stands; raises `RunError` if it is another's."""
        if self._made:
            self._lost = self._lost or self._bucket.claimed_by() != self._content
            if self._lost:
                raise RunError(f"{self._bucket.url} was taken over by another training: this one stops")
            return
        if not self._bucket.claim(self._content, over=self._over):
            who = json.loads(self._bucket.claimed_by() or b"{}")
            raise RunError(
                f"{self._bucket.url} is being trained by process {who.get('process')} of {who.get('host')} since "
                f"{who.get('since')}: wait for it, or give another --out; if it was killed, continue with --resume"
            )
        self._made = True

    def release(self) -> None:
        """Remove it, if it is still ours."""
        with suppress(UserError):
            if self.is_held and self._bucket.claimed_by() == self._content:
                self._bucket.release()


_claims: dict[Path, _Claim] = {}
"""Of the runs that this process writes."""


def fetched(place: AnyPlace, *, whole: bool = False) -> Path:
    """The folder of a dataset, a run or an export, to be read; of one in a bucket the copy as it is there now.

    There is nothing in the copy if there is nothing in the bucket, or no finished dataset. A copy that this machine
    writes to is given as it is.

    Args:
        place: a path or an address.
        whole: with what only training reads.

    Raises:
        UserError: if the bucket cannot be reached, or an object is missing or damaged.
    """
    folder = copy_of(place)
    if is_copy(folder):
        copy = Copy(folder)
        copy.hold()
        with copy.transferring():
            if not copy.is_being_written():
                _fetch(copy, Bucket(copy.url), left=() if whole else (CHECKPOINT,))
    return folder


@contextmanager
def written(place: AnyPlace) -> Iterator[Path]:
    """The folder in which a dataset or an export is to be made; it is sent once the block ends without an error.

    What was made before and could not be sent is still there.

    Raises:
        UserError: as `fetched`, or if another process of this machine writes there.
    """
    folder = copy_of(place)
    if not is_copy(folder):
        yield folder
        return
    copy = Copy(folder)
    copy.hold()
    with copy.written_alone():
        with copy.transferring():
            _fetch(copy, Bucket(copy.url), keep=True)
        yield folder
        send(folder)


@contextmanager
def training_in(folder: Path, *, goes_on: bool) -> Iterator[None]:
    """Write a run: claimed in the bucket, fetched, and sent when the block ends, by an error too.

    Args:
        folder: of the run.
        goes_on: whether one that another process claims is taken over by the first `send`: that process's next one
            fails.

    Raises:
        RunError: if another process claims it and it is not to be taken over.
        UserError: as `fetched`, or if another process of this machine writes there.
    """
    if not is_copy(folder):
        yield
        return
    copy, bucket = Copy(folder), Bucket(address(folder))
    copy.hold()
    with copy.written_alone():
        _claims[folder] = _Claim(bucket, over=goes_on)
        try:
            if not goes_on:
                _claims[folder].hold()
            with copy.transferring():
                _fetch(copy, bucket)
            try:
                yield
            except BaseException:
                if _claims[folder].is_held:
                    with suppress(UserError):  # the block's own error is the one to tell
                        send(folder)
                raise
            send(folder)
        finally:
            _claims.pop(folder).release()


def send(folder: Path) -> None:
    """Let the bucket have what was changed in a copy since it was fetched or sent; of other folders nothing.

    Raises:
        RunError: if it is a run that another process has taken over; nothing is sent then.
        UserError: if the bucket cannot be reached.
    """
    if not is_copy(folder):
        return
    copy = Copy(folder)
    copy.hold()
    with copy.transferring():
        bucket, known, files = Bucket(copy.url), copy.known(), copy.files()
        if folder in _claims:
            _claims[folder].hold()
        files.pop(NOTES, None)
        changed = [name for name, status in files.items() if not _is_as(known.get(name), status)]
        gone = sorted((name for name in known if name not in files), key=lambda name: not _is_manifest(name))
        if not changed and not gone:
            return
        unfinished = [name for name in changed if _is_manifest(name) and name in known]
        bucket.delete([*unfinished, *gone])
        known = {name: one for name, one in known.items() if name not in (*unfinished, *gone)}
        copy.remember(known)
        # Otherwise in the order in which they were written, so that a killed sender leaves what a killed writer does.
        for name in sorted(changed, key=lambda name: (_is_manifest(name), files[name].st_mtime_ns, name)):
            seen = bucket.upload(folder / name, name)
            known[name] = Known(files[name].st_size, seen.version, files[name].st_mtime_ns)
            copy.remember(known)
        copy.make_room(sum(one.size for one in known.values()), refuse=False)


@contextmanager
def result_at(place: AnyPlace) -> Iterator[Path]:
    """Where to write a file or a folder that is to lie at a place; to a bucket it is sent once the block ends.

    Raises:
        UserError: if the bucket cannot be reached.
    """
    url = url_of(place)
    if url is None:
        yield Path(place)
        return
    above, _, name = url.rstrip("/").rpartition("/")
    copy_of(url)  # raises if nothing can be written there
    cache_folder().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache_folder(), prefix="result-") as folder:
        yield Path(folder) / name
        for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            Bucket(above).upload(file, file.relative_to(folder).as_posix())


def _fetch(copy: Copy, bucket: Bucket, *, keep: bool = False, left: tuple[str, ...] = ()) -> None:
    """Make a copy like what the bucket has.

    Args:
        copy: while `transferring`.
        bucket: what it is the copy of.
        keep: leave what is here if the bucket has neither a manifest nor a run.
        left: files that are not needed.
    """
    remote, known, files = bucket.listing(), copy.known(), copy.files()
    same = {name for name in known.keys() & remote.keys() if known[name][:2] == remote[name]}
    if keep and not {MANIFEST, RUN} & remote.keys():
        copy.remember({name: known[name] for name in same})
        return
    fresh = {name for name in same & files.keys() if _is_as(known[name], files[name])}
    manifest = b""
    if MANIFEST in remote:
        manifest = (copy.folder / MANIFEST).read_bytes() if MANIFEST in fresh else bucket.read(MANIFEST)
    wanted = {name: seen for name, seen in _wanted(bucket, remote, _checksums(manifest)).items() if name not in left}
    copy.make_room(sum(seen.size for seen in wanted.values()))
    _download(copy, bucket, wanted, fresh, manifest)
    for name in files.keys() - wanted.keys() - {*left, NOTES}:
        (copy.folder / name).unlink(missing_ok=True)
    if not wanted.keys() <= fresh or known.keys() != wanted.keys():
        moment = int(time.time()) - 2  # one for all, by which an opened dataset sees that they were checked
        for name in wanted:
            os.utime(copy.folder / name, (moment, moment))
        known = {name: Known(seen.size, seen.version, moment * 1_000_000_000) for name, seen in wanted.items()}
    copy.remember(known)  # in any case: by its time it is known when a copy was used


def _download(copy: Copy, bucket: Bucket, wanted: Mapping[str, Seen], fresh: set[str], manifest: bytes) -> None:
    """Let the copy have the objects that are wanted, but for fresh ones, once all of them are checked."""
    stale, checksums = sorted(wanted.keys() - fresh), _checksums(manifest)
    with copy.beside() as new:
        bucket.download([name for name in stale if name != MANIFEST], new)
        if MANIFEST in stale:
            new.mkdir(parents=True, exist_ok=True)
            (new / MANIFEST).write_bytes(manifest)
        for name in wanted if MANIFEST in stale else stale:
            file = (copy.folder if name in fresh else new) / name
            is_whole = file.stat().st_size == wanted[name].size
            if not is_whole or (name in checksums and checksum(file) != checksums[name]):
                raise UserError(f"{bucket.url}/{name} is damaged, or was changed after it was written: {_AGAIN}")
        for name in stale:
            (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(copy.folder / name)


def _checksums(manifest: bytes) -> dict[str, str]:
    """What a manifest lists: nothing if it is damaged, which its reader says."""
    try:
        return dict(json.loads(manifest)["checksums"])
    except (ValueError, TypeError, KeyError):
        return {}


def _wanted(bucket: Bucket, remote: Mapping[str, Seen], checksums: Mapping[str, str]) -> dict[str, Seen]:
    """What belongs to the dataset or export, or to the run, or nothing: what was left half sent is not seen."""
    if MANIFEST not in remote:
        return dict(remote) if RUN in remote else {}
    for name in checksums.keys() - remote.keys():
        raise UserError(f"{bucket.url}/{name} is missing: {_AGAIN}")
    return {name: remote[name] for name in (*checksums, MANIFEST)}


def _is_as(known: Known | None, status: os.stat_result) -> bool:
    return known is not None and (known.size, known.time) == (status.st_size, status.st_mtime_ns)


def _is_manifest(name: str) -> bool:
    return PurePosixPath(name).name == MANIFEST
