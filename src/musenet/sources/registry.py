"""Which sources there are: one line each, and those that installed packages add (docs/extending.md)."""

from typing import TYPE_CHECKING, Any

from musenet.options import one_of
from musenet.plugins import installed, wrong_method, wrong_options
from musenet.recipe.recipe import Recipe
from musenet.sources.ali_ads import AliAds
from musenet.sources.complete_journey import CompleteJourney
from musenet.sources.kuairand import KuaiRand
from musenet.sources.options import SourceOptions
from musenet.sources.own_files import OwnFiles
from musenet.sources.tables import Source

OWN: dict[str, Any] = {
    "own_files": OwnFiles,
    "complete_journey": CompleteJourney,
    "kuairand": KuaiRand,
    "ali_ads": AliAds,
}


def _wrong(name: str, source: Any) -> str | None:
    """What of another package's source is not as it has to be."""
    return wrong_options(name, source, SourceOptions, "source") or wrong_method(
        source, tables="engine", fingerprint="", size=""
    )


SOURCES: dict[str, Any] = installed("musenet.sources", OWN, _wrong)

if TYPE_CHECKING:
    AnySourceOptions = SourceOptions
else:
    AnySourceOptions = one_of((source.options_type for source in SOURCES.values()), "source")


def open_source(options: SourceOptions, recipe: Recipe) -> Source:
    """The source that the options name; relative paths start from the current folder.

    Args:
        options: the `data` part of a configuration.
        recipe: names the columns that are needed.
    """
    source: Source = SOURCES[options.source](options, recipe)
    return source
