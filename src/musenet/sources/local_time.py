"""Local clocks without an engine's own time zones: a zone's offsets over a log's span, as numbers.

Every engine then agrees to the microsecond, whatever its session's zone and whichever zone tables it ships.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import ibis
import ibis.expr.types as ir

from musenet.dataset.roles import MICROSECONDS
from musenet.engines.engine import Engine
from musenet.errors import ConfigError

HOUR = 3600 * MICROSECONDS
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = (
    (day - _EPOCH) // timedelta(microseconds=1)
    for day in (datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))
)
"""What Python's calendar has in every zone, in microseconds since 1970."""
_FIRST_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0


def on_calendar(time: int) -> datetime:
    """A time in microseconds as UTC; beyond Python's calendar the nearest that it has in every zone."""
    return _EPOCH + timedelta(microseconds=min(max(time, _FIRST), _LAST))


def zone_of(name: str) -> ZoneInfo:
    """The zone of this name; raises `ConfigError` if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"data.timezone: there is no time zone '{name}': write it as Area/City, for example Europe/Berlin, or UTC"
        ) from error


class LocalTime:
    """The clock of one zone on some days, and those beside them; on others it may be an hour off.

    Args:
        zone: such as `Europe/Berlin`.
        days: since 1970; an event in the year 9999 costs one day rather than all until then.
    """

    def __init__(self, zone: str, days: Iterable[int]) -> None:
        self.changes: list[int] = []
        """UTC times at which the clock is put forward or back, ascending."""
        self._zone = zone_of(zone)
        first, last = _FIRST // DAY, _LAST // DAY
        nearby = sorted({min(max(day + beside, first), last) for day in days for beside in (-1, 0, 1)} or {0})
        self._offsets = [self._look_up(nearby[0] * DAY)]
        for begin in (day * DAY for day in nearby):
            if self._look_up(begin) != self._offsets[-1]:  # in the gap before, in which nothing lies
                self._change_at(begin)
            end = begin + DAY
            if self._look_up(end) != self._offsets[-1]:
                self._change_at(self._find_change(begin, end))

    @classmethod
    def of(cls, engine: Engine, zone: str, time: ir.IntegerValue, table: ir.Table) -> "LocalTime":
        """The clock on the days of a table's times, in microseconds."""
        if zone_of(zone).utcoffset(None) is not None:  # the same on all days
            return cls(zone, [])
        days = table.select(day=time // DAY).distinct()
        found = engine.read(days.filter(days.day.notnull()))["day"].to_pylist()
        return cls(zone, map(int, found))

    def _change_at(self, moment: int) -> None:
        self.changes.append(moment)
        self._offsets.append(self._look_up(moment))

    def _look_up(self, time: int) -> int:
        offset = (_EPOCH + timedelta(microseconds=time)).astimezone(self._zone).utcoffset()
        return (offset or timedelta()) // timedelta(microseconds=1)

    def _find_change(self, begin: int, end: int) -> int:
        """The first time in (begin, end] with the offset of `end`."""
        while end - begin > 1:
            middle = (begin + end) // 2
            begin, end = (begin, middle) if self._look_up(middle) == self._look_up(end) else (middle, end)
        return end

    def to_local(self, time: ir.IntegerValue) -> ir.IntegerValue:
        """UTC to wall clock, both as microseconds."""
        return time + self._pick(time, self.changes)

    def to_utc(self, wall: ir.IntegerValue) -> ir.IntegerValue:
        """Wall clock to UTC; of an hour that happens twice the first is meant, as in Python's `fold=0`."""
        steps = zip(self.changes, self._offsets, self._offsets[1:], strict=False)
        return wall - self._pick(wall, [change + max(before, after) for change, before, after in steps])

    def _pick(self, time: ir.IntegerValue, bounds: list[int]) -> ir.IntegerValue:
        if not bounds:
            return ibis.literal(self._offsets[0], type="int64")
        offsets = [ibis.literal(offset, type="int64") for offset in self._offsets]
        branches = [(time < bound, offset) for bound, offset in zip(bounds, offsets, strict=False)]
        return ibis.cases(*branches, else_=offsets[-1])


def hour_of(wall: ir.IntegerValue) -> ir.IntegerValue:
    """Hour of the day, 0 to 23, of wall-clock microseconds."""
    return ((wall // HOUR) % 24).cast("int64")


def weekday_of(wall: ir.IntegerValue) -> ir.IntegerValue:
    """Day of the week, Monday 0 to Sunday 6, of wall-clock microseconds."""
    return ((wall // DAY + _FIRST_WEEKDAY) % 7).cast("int64")
