"""Ali Display Ads: which of the ads that Taobao shows does a visitor click?

Real impressions of eight days and what their users did on Taobao in twenty-two (Tianchi data set 56). docs/ads.md says
where the files come from, what is assumed and what each column is.
"""

from pathlib import Path
from typing import Literal

import ibis
import ibis.expr.types as ir
from pydantic import Field

from musenet.dataset.roles import ITEM, KIND, LABEL, MICROSECONDS, TIME, USER
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.recipe.recipe import Recipe
from musenet.sources.ali_ads_files import AdsFiles, find_ads
from musenet.sources.files.paths import expected_rows, fingerprint_of
from musenet.sources.files.relations import with_clock
from musenet.sources.options import FolderOptions
from musenet.sources.tables import LogSize, Tables

TIMEZONE = "Asia/Shanghai"
CLICK = "click"
"""The kind of an event that is an earlier click on an ad, rather than of the behaviour log."""


class AliAdsOptions(FolderOptions):
    """Where the four files of Ali Display Ads lie, unpacked."""

    source: Literal["ali_ads"]
    behavior_log: bool = Field(
        True, description="read the behaviour log; without it, histories contain only clicks on ads"
    )


class AliAds:
    """The source `ali_ads`.

    Args:
        options: the `data` part of the configuration.
        recipe: the kinds of events that it asks for must be among those that are read.
    """

    options_type = AliAdsOptions

    def __init__(self, options: AliAdsOptions, recipe: Recipe) -> None:
        self._options = options
        self._recipe = recipe

    def fingerprint(self) -> str:
        """The options, and each file's name, size and time of modification."""
        return fingerprint_of(self._options, [list(self._files().paths.values())])

    def size(self) -> LogSize:
        """Rows of `raw_sample` and of the behaviour log."""
        paths = self._files().paths
        return LogSize(
            expected_rows([paths["raw_sample"]]),
            expected_rows(path for name, path in paths.items() if name == "behavior_log"),
        )

    def tables(self, engine: Engine) -> Tables:
        """Impressions with place and hour, clicks and the behaviour log as events, profiles, and ads.

        Raises:
            DataError: on whatever cannot be used, in one sentence.
        """
        files = self._files()
        self._check_kinds()
        shown, ads, profiles = files.impressions(engine), files.ads(engine), files.profiles(engine)
        sifted = [shown, ads, profiles]
        events = _clicks(shown.kept, ads.kept)
        if self._options.behavior_log:
            log = files.behaviour(engine)
            sifted.append(log)
            events = events.union(_behaviour(log.kept))
        return Tables(
            impressions=_impressions(engine, shown.kept),
            events=events,
            users=profiles.kept.rename({USER: "user"}),
            items=ads.kept.rename({ITEM: "adgroup_id"}),
            user_column="user",
            item_column="adgroup_id",
            protocol="impressions and clicks as logged; a request is what a user was shown in one second",
            timezone=TIMEZONE,
            cleaning=[rule for part in sifted for rule in part.rules],
            rejected=ibis.union(*(part.refused for part in sifted)),
        )

    def _files(self) -> AdsFiles:
        return find_ads(Path(self._options.folder), behaviour=self._options.behavior_log)

    def _check_kinds(self) -> None:
        """Before hours of reading: kinds that cannot be there without the behaviour log."""
        repeat = self._recipe.repeat
        asked = {"history.kinds": self._recipe.history.kinds, "repeat.kinds": repeat.kinds if repeat else None}
        for key, kinds in asked.items():
            if not self._options.behavior_log and set(kinds or ()) - {CLICK}:
                raise DataError(f"{key}: without data.behavior_log there are only clicks: set it to [{CLICK}]")


def _impressions(engine: Engine, shown: ir.Table) -> ir.Table:
    """A request is a user's rows of one second: Taobao loads pages of three and of ten ads."""
    roles = {USER: shown.user, ITEM: shown.adgroup_id, TIME: shown.time_stamp * MICROSECONDS, LABEL: shown.clk}
    return with_clock(engine, shown.select(**roles, pid=shown.pid), ["hour", "weekday"], TIMEZONE)


def _clicks(shown: ir.Table, ads: ir.Table) -> ir.Table:
    """Clicked impressions as events at the second of the impression, described as the ad is."""
    joined = shown.filter(shown.clk == 1).left_join(ads.select("adgroup_id", "cate_id", "brand"), "adgroup_id")
    return _events(joined, joined.adgroup_id, ibis.literal(CLICK))


def _behaviour(log: ir.Table) -> ir.Table:
    """The log names no item, only its category and brand."""
    return _events(log, ibis.null("int64"), log.btag)


def _events(rows: ir.Table, item: ir.Value, kind: ir.Value) -> ir.Table:
    roles = {USER: rows.user, TIME: rows.time_stamp * MICROSECONDS, ITEM: item, KIND: kind}
    return rows.select(**roles, cate_id=rows.cate_id, brand=rows.brand)
