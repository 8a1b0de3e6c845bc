"""KuaiRand: which of the short videos that it shows does an app's user click?

Real impressions of Kuaishou (Gao et al., CIKM 2022, doi 10.1145/3511808.3557624; CC BY-SA 4.0). docs/kuairand.md says
what is assumed and what each column is.
"""

from pathlib import Path
from typing import Literal

import ibis
import ibis.expr.types as ir
from pydantic import Field

from musenet.dataset.roles import ITEM, KIND, LABEL, MICROSECONDS, REQUEST, TIME, USER
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.recipe.recipe import Recipe
from musenet.sources.files.cleaning import Sifted
from musenet.sources.files.paths import expected_rows, fingerprint_of
from musenet.sources.files.relations import with_clock
from musenet.sources.kuairand_files import CUT_DOWN, find_kuairand
from musenet.sources.options import FolderOptions
from musenet.sources.tables import CleaningRule, LogSize, Tables

TIMEZONE = "Asia/Shanghai"
LONG_VIEW_TAKES = 18 * MICROSECONDS
"""A long view is one of 18 seconds, or of the whole of a shorter video: by then it is known."""
LAST_DAYS_BEGIN = 1_650_812_741_436_000
"""The first impression of the cut-down files, in microseconds since 1970: where their sequences have ended."""
_SHOWN = ["user_id", "video_id", "time_ms"]


class KuaiRandOptions(FolderOptions):
    """Where KuaiRand's files lie, published or cut down, and what histories hold."""

    source: Literal["kuairand"]
    grow_history: bool = Field(
        True, description="add long views of the last fourteen days to histories, instead of ending them before"
    )


class KuaiRand:
    """The source `kuairand`.

    Args:
        options: the `data` part of the configuration.
        recipe: what it asks of repeats must not need times that the files lack.
    """

    options_type = KuaiRandOptions

    def __init__(self, options: KuaiRandOptions, recipe: Recipe) -> None:
        self._options = options
        self._recipe = recipe

    def fingerprint(self) -> str:
        """The options, and each file's name, size and time of modification."""
        return fingerprint_of(self._options, [find_kuairand(Path(self._options.folder)).paths])

    def size(self) -> LogSize:
        """Rows of the logs; about every third is a long view, and sequences hold a hundred videos or so."""
        files = find_kuairand(Path(self._options.folder))
        shown = expected_rows(files.folder / name for name in files.layout.logs)
        sequences = [files.folder / files.layout.sequences] if files.layout.sequences else []
        return LogSize(shown, shown // 3 + 100 * expected_rows(sequences))

    def tables(self, engine: Engine) -> Tables:
        """Impressions with scenario and hour, long views as events, users, and videos with their tags.

        Raises:
            DataError: on whatever cannot be used, in one sentence.
        """
        files = find_kuairand(Path(self._options.folder))
        if files.layout is CUT_DOWN:
            self._refuse_times()
        parts = list(files.logs(engine))
        users, videos = files.users(engine), files.videos(engine)
        log, doubled = _without_doubles(engine, ibis.union(*(part.kept for part in parts)))
        events = _long_views(log)
        if not self._options.grow_history:
            events = events.filter(events[TIME] < LAST_DAYS_BEGIN)
        rules, sifted = [doubled], [*parts, users, videos]
        shown = log
        if files.layout is CUT_DOWN:
            sequences = files.sequences(engine)
            before, more = _sequence_events(engine, sequences.kept, log)
            events = events.union(before)
            shown, late = _without_overlap(engine, parts, log)
            rules += [late, *more]
            sifted.append(sequences)
        return Tables(
            impressions=_impressions(engine, shown),
            events=events,
            users=users.kept.rename({USER: "user_id"}),
            # Preparation can take a column as one feature only; the tags one by one are another.
            items=videos.kept.mutate(tags=videos.kept.tag).rename({ITEM: "video_id"}),
            user_column="user_id",
            item_column="video_id",
            protocol=f"impressions and clicks as logged ({files.layout.what}), without the random intervention",
            timezone=TIMEZONE,
            cleaning=[rule for part in sifted for rule in part.rules] + [rule for rule in rules if rule.rows],
            rejected=ibis.union(*(part.refused for part in sifted)),
        )

    def _refuse_times(self) -> None:
        """The sequences are in order, but only their end has a time."""
        repeat = self._recipe.repeat
        if repeat is not None and (repeat.recency or repeat.window is not None):
            wrong, right = ("recency", "set it to false") if repeat.recency else ("window", "leave it out")
            raise DataError(f"repeat.{wrong}: the histories of the cut-down files have no times: {right}")


def _without_doubles(engine: Engine, rows: ir.Table) -> tuple[ir.Table, CleaningRule]:
    """Rows of one user, video and time once: the one that the server filed first."""
    filed = [name for name in ("date", "hourmin", *rows.columns) if name not in _SHOWN]
    place = ibis.row_number().over(ibis.window(group_by=_SHOWN, order_by=filed))
    numbered = engine.store("log", rows.mutate(place=place))
    surplus = engine.count(numbered.filter(numbered.place > 0))
    rule = CleaningRule("impressions", "doubled: same user, video and time", surplus, True)
    return numbered.filter(numbered.place == 0).drop("place"), rule


def _without_overlap(engine: Engine, parts: list[Sifted], log: ir.Table) -> tuple[ir.Table, CleaningRule]:
    """The log without rows of the first file that are not before the second: files were cut by the date of filing."""
    first, second = (part.kept.select(*_SHOWN) for part in parts)
    begins = engine.row(second.agg(begins=second.time_ms.min()))["begins"]
    late = first.filter(first.time_ms >= begins).anti_join(second, _SHOWN)
    kept = engine.store("shown", log.anti_join(late, _SHOWN))
    rows = engine.count(log) - engine.count(kept)
    return kept, CleaningRule("impressions", f"of {CUT_DOWN.logs[0]}, but not before {CUT_DOWN.logs[1]}", rows, True)


def _impressions(engine: Engine, log: ir.Table) -> ir.Table:
    """What was known when a video was shown; nothing of what came of it but the label.

    A user's rows of one millisecond are one request if they are of one scenario.
    """
    request = ibis.literal("/").join([log[name].cast("string") for name in ("user_id", "time_ms", "tab")])
    roles = {USER: log.user_id, ITEM: log.video_id, TIME: log.time_ms * 1000, LABEL: log.is_click, REQUEST: request}
    return with_clock(engine, log.select(**roles, tab=log.tab), ["hour", "weekday"], TIMEZONE)


def _long_views(log: ir.Table) -> ir.Table:
    seen = log.filter(log.long_view == 1)
    return _events(seen, seen.time_ms * 1000 + LONG_VIEW_TAKES)


def _sequence_events(engine: Engine, sequences: ir.Table, log: ir.Table) -> tuple[ir.Table, list[CleaningRule]]:
    """Long views of which only the order is known: a second apart, the last at the end of the sequence.

    The end must lie before all that the user was shown in the logs, or the sequence is left out. A video that follows
    itself is a doubled row of the log that the sequence was made of.
    """
    first = log.group_by("user_id").agg(first=log.time_ms.min())
    joined = sequences.left_join(first, "user_id").drop("user_id_right")
    joined = joined.mutate(known=(joined.last_time_ms < joined["first"]).fill_null(True))
    late = engine.count(joined.filter(~joined.known))
    known = joined.filter(joined.known)
    known = known.mutate(length=known.long_watch_seq.length(), video_id=known.long_watch_seq)
    one_by_one = known.unnest("video_id", offset="place")
    earlier = one_by_one.video_id.lag().over(ibis.window(group_by="user_id", order_by="place"))
    marked = one_by_one.mutate(doubled=(one_by_one.video_id == earlier).fill_null(False))
    stored = engine.store("sequences", marked)
    doubled = engine.count(stored.filter(stored.doubled))
    single = stored.filter(~stored.doubled)
    events = _events(single, single.last_time_ms * 1000 - (single.length - 1 - single.place) * MICROSECONDS)
    return events, [
        CleaningRule("sequences", "end not before the user's first impression", late, True),
        CleaningRule("sequences", "doubled: the same video twice running", doubled, True),
    ]


def _events(rows: ir.Table, time: ir.Value) -> ir.Table:
    return rows.select(
        **{USER: rows.user_id, TIME: time.cast("int64"), ITEM: rows.video_id, KIND: ibis.literal("long_view")}
    )
