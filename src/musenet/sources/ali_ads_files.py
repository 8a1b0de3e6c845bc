"""The four files of Ali Display Ads, in every spelling that goes round, as clean tables with one set of names."""

from dataclasses import dataclass, replace
from pathlib import Path

import ibis
import ibis.expr.types as ir

from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.files.cleaning import Sieve, Sifted, sift, sift_entities
from musenet.sources.files.columns import require
from musenet.sources.files.opening import LogFile, open_files
from musenet.sources.files.values import Parsed, as_number, as_text
from musenet.sources.tables import CleaningRule

FIRST_SECOND, LAST_SECOND = 1_492_790_400, 1_494_691_199
"""The log's 22 days: 22 April 2017, 00:00:00, to 13 May, 23:59:59, in China."""
HIGHEST_PRICE = 10_000
"""Of the 846,811 ads 0.77 % cost more, up to 99,999,999: placeholders rather than prices."""
KINDS = ("pv", "cart", "fav", "buy")
PROFILE = (
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)

_KEY = "data.folder"
_WHERE = "docs/ads.md says where they come from"
_NAMES = {
    "raw_sample": ("raw_sample",),
    "ad_feature": ("ad_feature",),
    "user_profile": ("user_profile",),
    "behavior_log": ("behavior_log", "raw_behavior_log"),
}
_SPELLINGS = {
    "user_id": "user",
    "userid": "user",
    "nick": "user",
    "timestamp": "time_stamp",
    "behavior_time": "time_stamp",
    "noclk": "nonclk",
    "cate": "cate_id",
    "customer_id": "customer",
    "brand_id": "brand",
}
"""Names in lower case, and what they are called here."""
_PAGE_VIEW = "ipv"
"""How the published description, but not the published file, spells `pv`."""


@dataclass(frozen=True)
class AdsFiles:
    """Where each table lies; the behaviour log may be left out."""

    paths: dict[str, Path]

    def impressions(self, engine: Engine) -> Sifted:
        """`user`, `time_stamp` in seconds, `adgroup_id`, `pid` and `clk`."""
        sieve = Sieve(self._open(engine, "raw_sample"))
        _read_whole_numbers(sieve, "user", "time_stamp", "adgroup_id", required=True)
        require(sieve.file, "pid", _KEY)
        sieve.role("pid", as_text(sieve.file.table.pid.strip()), "pid")
        for label in ("nonclk", "clk"):
            require(sieve.file, label, _KEY)
            number = _whole(sieve.file.table[label])
            sieve.parsed(label, replace(number, wrong=number.wrong | ~number.value.isin([0, 1])), label, "0 or 1")
        sieve.reasons.append(("nonclk is not 1 - clk", sieve.columns.pop("nonclk") == sieve.columns["clk"]))
        return sift(engine, "impressions", sieve)

    def ads(self, engine: Engine) -> Sifted:
        """`adgroup_id`, `cate_id`, `campaign_id`, `customer`, `brand` or NULL, and `price`, clipped."""
        sieve = Sieve(self._open(engine, "ad_feature"))
        _read_whole_numbers(sieve, "adgroup_id", required=True)
        _read_whole_numbers(sieve, "cate_id", "campaign_id", "customer", "brand")
        require(sieve.file, "price", _KEY)
        sieve.parsed("price", as_number(sieve.file.table.price), "price", "a number", required=False)
        ads = sift_entities(engine, "items", sieve, "adgroup_id")
        dear = ads.kept.price > HIGHEST_PRICE
        mended = {
            "brand is NULL: made missing": ads.kept.brand.isnull().sum(),
            f"price above {HIGHEST_PRICE}: clipped": dear.sum(),
        }
        clipped = dear.fill_null(False).ifelse(float(HIGHEST_PRICE), ads.kept.price)
        rules = _mended(engine, "items", ads, mended)
        return replace(ads, kept=ads.kept.mutate(price=clipped), rules=ads.rules + rules)

    def profiles(self, engine: Engine) -> Sifted:
        """`user` and the codes of `PROFILE`, NULL where empty."""
        sieve = Sieve(self._open(engine, "user_profile"))
        _read_whole_numbers(sieve, "user", required=True)
        _read_whole_numbers(sieve, *PROFILE)
        return sift_entities(engine, "users", sieve, "user")

    def behaviour(self, engine: Engine) -> Sifted:
        """`user`, `time_stamp` in seconds, `btag`, `cate_id` and `brand`, of the 22 days, duplicates included."""
        sieve = Sieve(self._open(engine, "behavior_log"))
        _read_whole_numbers(sieve, "user", "time_stamp", required=True)
        outside = "time_stamp is outside the log's 22 days"
        sieve.reasons.append((outside, ~sieve.columns["time_stamp"].between(FIRST_SECOND, LAST_SECOND)))
        sieve.expected.add(outside)
        require(sieve.file, "btag", _KEY)
        written = as_text(sieve.file.table.btag.strip().lower())
        sieve.role("btag", written, "btag")
        sieve.reasons.append((f"btag is not {', '.join(KINDS)}", ~written.isin([*KINDS, _PAGE_VIEW])))
        _read_whole_numbers(sieve, "cate_id", "brand")
        log = sift(engine, "events", sieve)
        misspelt = log.kept.btag == _PAGE_VIEW
        rules = _mended(engine, "events", log, {f"btag is {_PAGE_VIEW}: made pv": misspelt.sum()})
        kind = misspelt.ifelse("pv", log.kept.btag)
        return replace(log, kept=log.kept.mutate(btag=kind), rules=log.rules + rules)

    def _open(self, engine: Engine, name: str) -> LogFile:
        """A file as a relation that is read whenever it is asked for: the largest would not fit twice."""
        file = open_files(engine, _KEY, [self.paths[name]], stored=False)
        called = {column: _SPELLINGS.get(column.lower(), column.lower()) for column in file.table.columns}
        for meaning in called.values():
            same = [column for column, other in called.items() if other == meaning]
            if len(same) > 1:
                raise DataError(f"{file.name}: columns {' and '.join(same)} mean the same: keep one of them")
        return replace(file, table=file.table.rename({meaning: column for column, meaning in called.items()}))


def find_ads(folder: Path, *, behaviour: bool) -> AdsFiles:
    """The files in a folder, the behaviour log among them or not.

    Raises:
        DataError: if one is not there, still packed, or there twice.
    """
    if not folder.is_dir():
        raise DataError(f"{_KEY}: there is no folder {folder}: put the files there; {_WHERE}")
    paths = {}
    for table, names in _NAMES.items():
        if table == "behavior_log" and not behaviour:
            continue
        found = [path for name in names if (path := folder / f"{name}.csv").is_file()]
        if len(found) > 1:
            raise DataError(f"{_KEY}: {found[0]} and {found[1].name} are both there: keep one of them")
        if not found:
            raise DataError(_missing(folder, names))
        paths[table] = found[0]
    return AdsFiles(paths)


def _missing(folder: Path, names: tuple[str, ...]) -> str:
    packed = [path for name in names for path in sorted(folder.glob(f"{name}.csv.*")) if path.is_file()]
    if packed:
        return f"{packed[0]} is still packed ({_KEY}): unpack it there, for example with: tar -xzf {packed[0].name}"
    without = "; data.behavior_log: false does without it" if "behavior_log" in names else ""
    return f"{_KEY}: {folder} lacks {names[0]}.csv: {_WHERE}{without}"


def _read_whole_numbers(sieve: Sieve, *names: str, required: bool = False) -> None:
    for name in names:
        require(sieve.file, name, _KEY)
        sieve.parsed(name, _whole(sieve.file.table[name]), name, "a whole number", required=required)


def _whole(text: ir.Value) -> Parsed:
    """A code: digits and a sign, since 723 million rows are too many for every spelling of a number."""
    written = text.nullif("NULL")
    # Engines do not agree on what else is a whole number: `1.5`, `1e3`, `1_000`.
    number = written.re_search("[^0-9 +-]").ifelse(ibis.null("string"), written).try_cast("int64")
    return Parsed(number, number.isnull() & written.notnull(), written.isnull())


def _mended(engine: Engine, relation: str, sifted: Sifted, counts: dict[str, ir.Value]) -> list[CleaningRule]:
    found = engine.row(sifted.kept.agg(**counts))
    return [CleaningRule(relation, reason, rows, False) for reason, rows in found.items() if rows]
