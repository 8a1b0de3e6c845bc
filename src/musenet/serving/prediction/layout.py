"""What the columns of a table are to a scorer: which rows are one request, and what each side of it holds.

Shapes: R requests, N candidates.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.roles import MICROSECONDS
from musenet.dataset.texts import LONGEST_ID
from musenet.errors import DataError, RequestError
from musenet.serving.prediction.columns import (
    Places,
    first_rows,
    listed,
    listed_values,
    may_be_number,
    plain,
    spread,
    texts_of,
)
from musenet.serving.prediction.histories import Asked
from musenet.serving.prediction.times import NO_TIME, NoTimeError, Times, microseconds_of
from musenet.serving.scorer.encoder import Distinct, Encoded
from musenet.serving.scorer.local_clock import CLOCK
from musenet.serving.scorer.messages import ID_WANTED, MOST_CANDIDATES
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.scorer.vectors import distinct_vectors
from musenet.serving.values import Value

HISTORY = "history"


@dataclass(frozen=True)
class Requests:
    """Rows of whole requests as a scorer takes them."""

    sizes: Places
    """(R,) candidates of each."""
    asked: Asked
    request: Encoded
    """(R, ·) users and contexts."""
    candidate: Encoded
    """(N, ·) items and candidates."""
    predefined: Places
    """(R,) code of the scenario that the context's columns name; -1 for one that the log does not know."""


class Layout:
    """Reads rows of one schema.

    Args:
        scorer: an opened export.
        schema: of the rows.
        now: seconds since 1970, when all rows are shown; None to read their times.
        name: of the rows, for messages.

    Raises:
        DataError: if a column is missing, or of a type that it cannot be.
    """

    def __init__(self, scorer: Scorer, schema: pa.Schema, now: float | None, name: str) -> None:
        self.schema, self.name = schema, name
        self._scorer, self._now = scorer, now
        manifest = scorer.manifest
        self._user, self._item, self._written = manifest.user_column, manifest.item_column, manifest.log.time
        self._context, self._candidate = sorted(scorer.context_columns), sorted(scorer.candidate_columns)
        self._clock = [one for one in scorer.clock_columns if one not in schema.names]
        wanted = [self._user, self._item, *scorer.required_columns]
        missing = [one for one in wanted if one not in schema.names and one not in self._clock]
        if missing:
            what = f"lacks the column{'s' if len(missing) > 1 else ''}"
            raise DataError(f"{name} {what} {', '.join(missing)}; it has {listed(schema.names)}")
        for one in scorer.numeric_columns:
            if one in schema.names and not may_be_number(schema.field(one).type):
                raise DataError(f"{name}: column '{one}' takes numbers, but holds {schema.field(one).type}")
        request = manifest.log.request
        self._request = request if request in schema.names else None
        self._has_times = self._written.column in schema.names
        asked = self._clock or scorer.sees_histories or (scorer.relative is not None and self._request is None)
        if not self._has_times and now is None and asked:
            raise DataError(
                f"{name} lacks the column '{self._written.column}', which says when its rows are shown: add it, or say "
                "with --now when all of them are, such as --now 2026-01-31T12:00:00Z"
            )

    def written(self, added: Mapping[str, pa.DataType]) -> pa.Schema:
        """Of the rows with what is added to them; a name that they have already is prefixed, as often as need be."""
        fields = list(self.schema)
        for name, kind in added.items():
            prefixed = name
            while prefixed in self.schema.names:
                prefixed = f"musenet_{prefixed}"
            fields.append(pa.field(prefixed, kind))
        return pa.schema(fields)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn a mistake in a request into one of this table."""
        try:
            yield
        except RequestError as error:
            where = error.field if error.field.startswith("row ") else f"column '{error.field}'"
            raise DataError(f"{self.name}: {where} {error.reason}") from error

    def last_begin(self, table: pa.Table, first: int) -> int:
        """Where the last request of these rows begins; raises `DataError` if it has too many rows."""
        begins = first_rows(self.keys(table, first), table.num_rows)
        self._check_length(table, int(begins[-1]), table.num_rows, first)
        return int(begins[-1])

    def check_together(self, table: pa.Table, first: int, begun: set[tuple[Value, ...]]) -> None:
        """Raise `DataError` if a request of these rows began before, where its rows are compared with each other.

        Args:
            table: whole requests.
            first: how many rows came before.
            begun: the requests before; these are added.
        """
        if self._scorer.relative is None:
            return
        times = self._times(table, first) if self._request is None else None
        begins = first_rows(self.keys(table, first), table.num_rows)
        columns = [Distinct[Value].of(plain(table[one])) for one in (self._user, self._request) if one is not None]
        told = [spread(Distinct(one.values, one.places[begins])).to_pylist() for one in columns]
        for place, key in zip(
            begins, zip(*told, *([] if times is None else [times[begins]]), strict=True), strict=True
        ):
            if key in begun:
                raise DataError(
                    f"{self.name}: row {first + int(place) + 1} continues a request whose other rows are elsewhere; "
                    "the model compares candidates of a request, so put its rows together, in one file"
                )
            begun.add(key)

    def requests(self, table: pa.Table, first: int) -> Requests:
        """Whole requests; `first` is how many rows came before.

        Raises:
            DataError: naming rows and columns, for rows of one request that differ in what they share.
            RequestError: naming row and column, for a value that cannot be used.
        """
        scorer, manifest, rows = self._scorer, self._scorer.manifest, table.num_rows
        times = self._times(table, first)
        begins = first_rows(self.keys(table, first), rows)
        sizes = np.diff(begins, append=rows)
        longest = int(sizes.argmax())
        self._check_length(table, int(begins[longest]), int(begins[longest] + sizes[longest]), first)
        of = np.repeat(np.arange(len(begins)), sizes)
        when = np.minimum.reduceat(times, begins)
        columns = {
            name: self._distinct(name, table[name])
            for name in table.column_names
            if name in {self._user, self._item, *self._context, *self._candidate}
        }
        columns |= {name: Distinct.of(pa.array(CLOCK[name](when, manifest.timezone)[of])) for name in self._clock}
        for name in self._context:
            if name in columns and name not in self._candidate:
                self._check_shared(name, columns[name].places, begins, of, first)
        self._check_request(table, times, begins, first)
        users, items = (self._ids(name, columns[name], first) for name in (self._user, self._item))

        def row(place: int, name: str) -> str:
            return f"row {first + place + 1}: column '{name}'"

        shared = {name: Distinct[Value](one.values, one.places[begins]) for name, one in columns.items()}
        context = scorer.encoder.encode_columns(
            "context", shared, len(begins), lambda place, name: row(int(begins[place]), name)
        )
        candidate = scorer.encoder.encode_columns("candidate", columns, rows, row)
        user_rows = scorer.users.find(users.values)[users.places[begins]]
        item_rows = scorer.items.find(items.values)[items.places]
        asked = Asked(
            users=Distinct(users.values, users.places[begins]),
            when=when,
            of=of,
            keys=self._repeat_keys(columns, items),
            own=table[HISTORY].combine_chunks().take(pa.array(begins)) if HISTORY in table.column_names else None,
        )
        return Requests(
            sizes=sizes,
            asked=asked,
            request=_beside(scorer.users.codes(user_rows), scorer.users.dense(user_rows), context),
            candidate=_beside(scorer.items.codes(item_rows), scorer.items.dense(item_rows), candidate),
            predefined=self._predefined(shared, len(begins)),
        )

    @property
    def read(self) -> list[str]:
        """The columns of these rows that are looked at."""
        named = (self._user, self._item, self._request, self._written.column, *self._context, *self._candidate, HISTORY)
        return [name for name in self.schema.names if name in named]

    def _times(self, table: pa.Table, first: int) -> Times:
        """(N,) microseconds: `now` where there are none; 0 where that is not given, since nothing depends on them."""
        if not self._has_times:
            return np.full(table.num_rows, round((self._now or 0.0) * MICROSECONDS), dtype=np.int64)
        column = table[self._written.column].combine_chunks()
        try:
            times = microseconds_of(column, self._written, self._scorer.manifest.timezone)
        except NoTimeError as error:
            where = f"{self.name}: row {first + error.place + 1}: column '{self._written.column}'"
            raise DataError(f"{where} {error}") from None
        if (times == NO_TIME).any():
            if self._now is None:
                row = first + int((times == NO_TIME).argmax()) + 1
                raise DataError(
                    f"{self.name}: row {row} lacks its time in '{self._written.column}': fill it in, or say with --now "
                    "when such rows are shown"
                )
            times = np.where(times == NO_TIME, round(self._now * MICROSECONDS), times)
        return times

    def _distinct(self, name: str, column: pa.ChunkedArray) -> "Distinct[Value]":
        values = plain(column)
        vectors = distinct_vectors(values) if name in self._scorer.vector_columns else None
        return Distinct.of(values) if vectors is None else Distinct(*vectors)

    def keys(self, table: pa.Table, first: int) -> list[Places]:
        """What rows of one request share: user and request, or time where requests have no column of their own."""
        user = Distinct.of(plain(table[self._user])).places
        if self._request is None:
            return [user, self._times(table, first)]
        return [user, Distinct.of(plain(table[self._request])).places]

    def _check_length(self, table: pa.Table, begin: int, end: int, first: int) -> None:
        if end - begin > MOST_CANDIDATES:
            what = self._request or self._user
            raise DataError(
                f"{self.name}: a request has more than {MOST_CANDIDATES:,} rows, from row {first + begin + 1} on "
                f"({what} {table[what][begin].as_py()})"
            )

    def _check_request(self, table: pa.Table, times: Times, begins: Places, first: int) -> None:
        """Raise `DataError` unless every row has the id of its request, and none names several requests."""
        if self._request is None:
            return
        if table[self._request].null_count:
            row = first + int(table[self._request].is_valid().index(False).as_py()) + 1
            raise DataError(f"{self.name}: row {row} lacks its request in '{self._request}': fill it in")
        longest = self._scorer.manifest.log.longest
        last = np.maximum.reduceat(times, begins)
        long = last - np.minimum.reduceat(times, begins) > round(longest * MICROSECONDS)
        if long.any():
            place = int(begins[long.argmax()])
            raise DataError(
                f"{self.name}: request {table[self._request][place].as_py()}, from row {first + place + 1} on, lasts "
                f"longer than {longest:,.0f} seconds: ids that begin anew name several requests, so give each one of "
                "its own, or set requests.longest and export again"
            )

    def _check_shared(self, name: str, places: Places, begins: Places, of: Places, first: int) -> None:
        differs = places != places[begins][of]
        if differs.any():
            place = int(differs.argmax())
            both = f"rows {first + int(begins[of[place]]) + 1} and {first + place + 1}"
            how = f"a `{self._request}`" if self._request else "a time"
            raise DataError(
                f"{self.name}: {both} belong to one request, but differ in '{name}': give each {how} of its own"
            )

    def _ids(self, name: str, column: Distinct[Value], first: int) -> Distinct[str | None]:
        """Text of the ids, all of which are there."""
        texts = texts_of(self._scorer.forms, name, column)
        are_ids = isinstance(column.values, pa.Array) and any(
            test(column.values.type) for test in (pa.types.is_string, pa.types.is_integer, pa.types.is_floating)
        )
        wrong = np.ones(len(texts.values), dtype=bool)
        if are_ids:
            lengths = pc.fill_null(pc.utf8_length(texts.values), LONGEST_ID + 1)
            wrong = pc.greater(lengths, LONGEST_ID).to_numpy(zero_copy_only=False)
        wrong_rows = wrong[column.places]
        if wrong_rows.any():
            raise RequestError(f"row {first + int(wrong_rows.argmax()) + 1}: column '{name}'", ID_WANTED)
        return texts

    def _repeat_keys(self, columns: Mapping[str, Distinct[Value]], items: Distinct[str | None]) -> list[pa.Array]:
        """(N,) text of the candidates' repeat keys, column by column."""
        scorer, found = self._scorer, []
        for name, origin in scorer.manifest.key_columns.items():
            if name == scorer.manifest.item_column:
                texts = items
            elif origin == "items":
                texts = Distinct(scorer.items.key(name, scorer.items.find(items.values)), items.places)
            else:
                texts = texts_of(scorer.forms, name, columns[name])
            found.append(spread(texts, pa.string()))
        return found

    def _predefined(self, columns: Mapping[str, Distinct[Value]], requests: int) -> NDArray[np.int64]:
        """(R,) codes; see `Requests.predefined`."""
        manifest, nothing = self._scorer.manifest, np.full(requests, -1, dtype=np.int64)
        names, known = manifest.predefined_columns, manifest.predefined_scenarios or []
        if not known or any(name not in columns for name in names):
            return nothing
        told: list[Sequence[Value]] = []
        for name in names:
            texts = texts_of(self._scorer.forms, name, columns[name])
            words = [f"{name}={'missing' if text is None else text}" for text in listed_values(texts)]
            told.append([words[place] for place in texts.places.tolist()])
        codes = {label: code for code, label in enumerate(known)}
        return np.array(
            [codes.get(", ".join(map(str, label)), -1) for label in zip(*told, strict=True)], dtype=np.int64
        )


def _beside(codes: Places, dense: NDArray[np.float32], other: Encoded) -> Encoded:
    return Encoded(np.concatenate([codes, other.codes], axis=1), np.concatenate([dense, other.dense], axis=1))
