"""Rows of a later period become part of a dataset: the order of the steps, and what is refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow.parquet as pq

from musenet import __version__
from musenet.dataset.dataset import Dataset, Views
from musenet.dataset.layout import Relation, keys_file, relation_folder
from musenet.dataset.manifest import FIRST_VALUE, Manifest
from musenet.dataset.roles import ITEM
from musenet.dataset.texts import text_of
from musenet.dataset.writer import period_of
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.preparation.encoding.encode import Folders, check_types, split_texts
from musenet.preparation.encoding.fields import PlannedField, plan_fields
from musenet.preparation.encoding.scales import Scales
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.preparation.encoding.writer import DatasetWriter
from musenet.preparation.extension.first_shown import with_first_shown
from musenet.preparation.extension.growth import Growth
from musenet.preparation.extension.joining import Added, Joining
from musenet.preparation.extension.kept import Facts, Kept, facts_of, read_facts
from musenet.preparation.extension.occurrences import Occurrences
from musenet.preparation.relations.columns import role_name
from musenet.preparation.relations.past import REMEDY, Past
from musenet.preparation.relations.relations import Relations, build_relations
from musenet.preparation.relations.split import PERIOD_NAMES, Cuts
from musenet.recipe.recipe import Recipe
from musenet.sources.tables import Source, Tables
from musenet.workspace import result_folder


@runtime_checkable
class GrowingSource(Source, Protocol):
    """A log to which files are added."""

    def files(self) -> dict[str, list[str]]:
        """What each file of each table is known by."""
        ...

    def described(self) -> str:
        """How the log is described, wherever its files lie: equal descriptions read equal files alike."""
        ...

    def added_to(self, known: dict[str, list[str]]) -> Source:
        """The log of the files that are not known yet; raises `DataError` if there are none, or a known one changed."""
        ...


def added_source(source: Source, before: Dataset) -> Source:
    """What was added to the log that a dataset was prepared of.

    Raises:
        DatasetError: if the dataset keeps nothing to be extended by.
        DataError: if the log is not of files, is described otherwise now, has no new ones, or one that changed.
    """
    facts = read_facts(before)
    if not isinstance(source, GrowingSource):
        raise DataError("a dataset can be extended only if the log is your own files (data.source: own_files)")
    if source.described() != facts.described:
        raise DataError(
            f"`data` describes the log differently than for {before.folder}: make the configuration "
            f"the same but for paths, or {REMEDY}"
        )
    return source.added_to(facts.files)


@dataclass(frozen=True)
class Extended:
    """What a dataset has become, all but its checks and its manifest."""

    folder: Path
    tables: Tables
    relations: Relations
    writer: DatasetWriter
    manifest: Manifest


def extend(
    engine: Engine, source: Source, recipe: Recipe, before: Dataset, work: Path, told: Callable[[str], None]
) -> Extended:
    """Write a dataset's columns and those of what was added to its log into the workspace's folder.

    Args:
        engine: computes the relations of what is added.
        source: the log, or that part of it that was added.
        recipe: the dataset's own; `split` may differ.
        before: the dataset.
        work: the workspace.
        told: is told of each step.

    Raises:
        DatasetError: if the dataset keeps nothing to be extended by.
        DataError: if something cannot be added so that all is as if prepared at once; nothing is left out in silence.
    """
    kept = Kept(before.folder)
    facts = read_facts(before)
    _check_recipe(before, facts, recipe)
    told("reading the log")
    past = Past(before, kept.counted if recipe.repeat else None)
    tables = past.with_looked_up(added_source(source, before).tables(engine))
    tables = with_first_shown(engine, before, tables)
    relations = build_relations(engine, tables, recipe, told, past)
    past.check_told(engine, relations.requests, relations.users, tables, relations.columns.user, recipe)
    _check_cuts(past, facts, relations.cuts)
    planned = plan_fields(recipe, tables)
    check_types(relations, planned)
    relations = split_texts(engine, relations, planned)
    told("fitting vocabularies on the training period")
    vocabularies = Growth(engine, past, kept, relations, planned, recipe).vocabularies()
    names = [role_name(tables, name) for name in recipe.predefined_scenario]
    scales = Scales.of(before.manifest)
    writer, added = _encode(engine, relations, (planned, vocabularies), scales, recipe, names, work, told)
    if writer.fields != before.manifest.fields:
        raise DataError(f"what is to be added has other fields than {before.folder}: {REMEDY}")
    told("joining what is added to the past")
    known = {
        "predefined_scenario": list(before.manifest.predefined_scenarios or []),
        "true_scenario": list(facts.true_scenarios),
    }
    folder = result_folder(work)
    joining = Joining(past, kept, added, folder, planned, vocabularies, known)
    joining.write(recipe, [one for one in relations.columns.looked_up if one != ITEM], _fixed(relations))
    Kept(folder).join_unknown_items(kept, added.kept)
    manifest = _manifest(before, relations, folder, known, tables)
    sizes = _write_vocabularies(before, folder, manifest, relations.cuts, planned, vocabularies)
    assert isinstance(source, GrowingSource)
    both = {name: list(dict.fromkeys([*facts.files.get(name, []), *of])) for name, of in source.files().items()}
    facts = facts_of(recipe, relations.cuts, both, source.described(), known["true_scenario"])
    manifest = manifest.model_copy(update={"vocabularies": sizes, "kept": facts.model_dump(mode="json")})
    return Extended(folder, tables, relations, writer, manifest)


def _encode(
    engine: Engine,
    relations: Relations,
    fields: tuple[list[PlannedField], dict[str, Vocabulary]],
    scales: Scales,
    recipe: Recipe,
    predefined: list[str],
    work: Path,
    told: Callable[[str], None],
) -> tuple[DatasetWriter, Added]:
    """What is added as a dataset of its own, by given vocabularies and scales."""
    folder, notes, kept = work / "added", work / "notes", Kept(work / "added")
    writer = DatasetWriter(engine, relations, *fields, folder, notes, uncoded=kept.uncoded, scales=scales)
    writer.encode(recipe, predefined, told)
    kept.find_unknown_items(engine, relations)
    if recipe.repeat is not None:
        kept.write_counted(engine, relations, Folders(*(relation_folder(of, "history") for of in (folder, notes))))
    return writer, Added(folder, notes, kept, writer.written.predefined_scenarios or [], writer.written.true_labels)


def _write_vocabularies(
    before: Dataset,
    folder: Path,
    manifest: Manifest,
    cuts: Cuts,
    planned: list[PlannedField],
    vocabularies: dict[str, Vocabulary],
) -> dict[str, int]:
    """Write the texts of every vocabulary with their counts; returns how many codes each has."""
    texts = {name: before.texts(name).to_pylist() for name in before.manifest.vocabularies}
    texts |= {name: text_of(of.values).to_pylist() for name, of in vocabularies.items()}
    rows = manifest.users + 1, manifest.items + 1
    counted = Occurrences(folder, manifest.splits, cuts.valid_from, rows)
    counted.write(manifest.fields, planned, vocabularies, texts)
    return {name: len(of) + FIRST_VALUE - 1 for name, of in sorted(texts.items())}


def _check_recipe(before: Dataset, facts: Facts, recipe: Recipe) -> None:
    now = recipe.model_dump(mode="json")
    differing = [key for key in {**facts.recipe, **now} if key != "split" and facts.recipe.get(key) != now.get(key)]
    if differing:
        raise DataError(
            f"{before.folder} was prepared with another {', '.join(sorted(differing))}: make the configuration the "
            f"same, or {REMEDY}"
        )
    if recipe.negatives != "none":
        raise DataError(
            "with sampled negatives a dataset cannot be extended, since what is popular has changed for the past as "
            f"well: {REMEDY}"
        )


def _check_cuts(past: Past, facts: Facts, cuts: Cuts) -> None:
    if facts.test_until is not None:
        raise DataError(
            f"{past.dataset.folder} ends at its split's test_until and does not keep later rows: leave test_until "
            f"out and {REMEDY}"
        )
    if cuts.train_from != facts.train_from or cuts.valid_from < facts.valid_from:
        raise DataError(
            f"training would have to lose requests that gave {past.dataset.folder} its codes: let train_from be as it "
            f"was and valid_from not earlier, or {REMEDY}"
        )


def _fixed(relations: Relations) -> dict[str, set[str]]:
    """Attributes that stand in the impressions, where they have to be the same for all of a user's or item's."""
    of_sides = {"user": relations.columns.user, "item": relations.columns.item}
    return {
        side: {name for name, origin in columns.items() if origin == "impressions"}
        for side, columns in of_sides.items()
    }


def _manifest(
    before: Dataset, relations: Relations, folder: Path, known: dict[str, list[str]], tables: Tables
) -> Manifest:
    views = Views(folder)
    offset, time = views.requests.candidate_offset, views.requests.time
    borders = [0, *np.searchsorted(time, [relations.cuts.valid_from, relations.cuts.test_from]).tolist(), len(time)]
    splits = {
        name: period_of(offset, time, views.candidates.label, begin, end)
        for name, begin, end in zip(PERIOD_NAMES, borders[:-1], borders[1:], strict=True)
    }
    old = before.manifest
    return old.model_copy(
        update={
            "version": __version__,
            "users": len(views.events.offset) - 2,
            "items": _rows(folder, "items"),
            "events": int(views.events.offset[-1]),
            "requests": len(time),
            "candidates": int(offset[-1]),
            "splits": splits,
            "predefined_scenarios": None if old.predefined_scenarios is None else known["predefined_scenario"],
            "true_scenarios": None if old.true_scenarios is None else len(known["true_scenario"]),
            "time_layouts": tables.time_layouts | old.time_layouts,
            "missing_texts": list(dict.fromkeys([*old.missing_texts, *tables.missing_texts])),
        }
    )


def _rows(folder: Path, relation: Relation) -> int:
    """Known users or items."""
    return int(pq.read_metadata(keys_file(folder, relation)).num_rows) - 1
