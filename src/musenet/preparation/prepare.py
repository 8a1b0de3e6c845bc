"""A log becomes a dataset: the order of the steps, each of which is a function in a file beside this one."""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musenet import __version__
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import relation_folder
from musenet.dataset.manifest import (
    FORMAT,
    Field,
    Manifest,
    carry_over,
    checksums_of,
    listed,
    orphans_of_replacing,
    write_manifest,
)
from musenet.dataset.texts import ValueType
from musenet.engines.engine import Engine, failures_explained
from musenet.engines.registry import EngineName, open_engine
from musenet.errors import DataError, DatasetError
from musenet.preparation.checks.checks import (
    Checks,
    FeatureCheck,
    OwnEvents,
    feature_warnings,
    leak_warnings,
    period_warnings,
    read_checks,
    sum_of_rows,
)
from musenet.preparation.checks.inspection import Inspector, own_events
from musenet.preparation.checks.row_counts import count_rows, list_warnings, log_warnings, write_rejected
from musenet.preparation.encoding.encode import Folders, check_types, split_texts
from musenet.preparation.encoding.fields import PlannedField, plan_fields
from musenet.preparation.encoding.fitting import Training, value_types
from musenet.preparation.encoding.writer import DatasetWriter
from musenet.preparation.extension.extend import GrowingSource, added_source, extend
from musenet.preparation.extension.kept import Kept, facts_of
from musenet.preparation.relations.columns import role_name, under_own_names
from musenet.preparation.relations.relations import Relations, build_relations
from musenet.preparation.relations.split import PERIOD_NAMES
from musenet.preparation.stages import Stages, check_space
from musenet.recipe.recipe import Recipe
from musenet.sources.tables import Source, Tables, check_tables
from musenet.workspace import install, result_folder, workspace

COLUMNS_AT_ONCE = 4
"""Columns that are measured at the same time."""


@dataclass(frozen=True)
class PreparedReport:
    """What `prepare` made, or found made already."""

    dataset: Dataset
    checks: Checks
    """To be shown with `musenet.preparation.checks.checks.render`."""
    reused: bool
    """The same recipe and source had been prepared before: nothing was written."""

    @property
    def folder(self) -> Path:
        """Where the dataset lies."""
        return self.dataset.folder


def _silent(_: str) -> None:
    pass


def _uncounted(_: int, __: int) -> None:
    pass


def prepare(  # noqa: PLR0913 - one per option
    source: Source,
    recipe: Recipe,
    out: Path,
    *,
    engine: EngineName = "duckdb",
    memory: int | None = None,
    replace: bool = False,
    extends: Path | None = None,
    progress: Callable[[str], None] = _silent,
    steps: Callable[[int, int], None] = _uncounted,
) -> PreparedReport:
    """Turn a log into a dataset in the folder `out`.

    The folder appears whole or not at all; a dataset of another recipe or log is replaced only if asked, the same one
    is kept. What a preparation of the same recipe and log had finished when it was interrupted is not done again.

    Args:
        source: yields the log's tables.
        recipe: what the dataset shall hold.
        out: its folder.
        engine: what computes the relations; the dataset is the same.
        memory: bytes that the engine may use; half of what is free, if None.
        replace: another dataset in the folder gives way; which runs lose theirs is told.
        extends: a dataset of the same recipe and of an earlier state of the log: only what was added to the log since
            is read, and codes and scales stay as they are there.
        progress: told of each step.
        steps: told of how much of the work is done, of how much in all.

    Raises:
        DataError: if the log cannot be used as the recipe says.
        DatasetError: if `out` is in use, holds something else, or another dataset that may not be replaced.
        UserError: if the disk is full, or too small for what is to come.
    """
    log, before = fingerprint(source, recipe), None if extends is None else _extended(extends, out)
    identity = log if before is None else _identity(log, before.manifest.fingerprint)
    with failures_explained(out.parent), workspace(out, f"{identity} {engine}") as work:
        dataset = same_dataset(out, identity)
        if dataset is not None:
            progress(f"{out} holds this dataset already")
            return PreparedReport(dataset, read_checks(out), reused=True)
        how = "replace it by `musenet prepare CONFIG --replace`"
        orphans = orphans_of_replacing(out, identity, asked=replace, how=how)
        size = (source if before is None else added_source(source, before)).size()
        progress(check_space(work, size, recipe, None if before is None else before.folder))
        stages = Stages(size, progress, steps)
        with closing(open_engine(engine, work, memory)) as opened:
            if before is None:
                checks = _write_dataset(opened, source, recipe, work, identity, stages)
            else:
                checks = _write_extended(opened, source, recipe, work, (before, log, identity), stages)
        stages("putting the dataset into its place")
        carry_over(out, result_folder(work))
        install(work, out)
        stages.finish()
        if orphans:
            progress(f"{out} was replaced, so these runs have lost their dataset: {listed(orphans)}")
    return PreparedReport(Dataset(out), checks, reused=False)


def _extended(folder: Path, out: Path) -> Dataset:
    if folder.resolve() == out.resolve():
        raise DatasetError(f"--extend {folder}: runs on it depend on its codes, so name another folder with --out")
    return Dataset(folder)


def _identity(log: str, before: str) -> str:
    """The fingerprint of an extended dataset: its codes are not those of the same log prepared at once."""
    return hashlib.sha256(f"{log} extends {before}".encode()).hexdigest()


def _write_dataset(
    engine: Engine,
    source: Source,
    recipe: Recipe,
    work: Path,
    identity: str,
    told: Callable[[str], None],
) -> Checks:
    """The dataset's folder inside the workspace, with everything in it."""
    told("reading the log")
    tables = source.tables(engine)
    check_tables(tables)
    if recipe.features.relative and tables.negative_sampling_rate != 1:
        raise DataError(
            f"features.relative: the log keeps {tables.negative_sampling_rate:.3g} of the negatives, so its lists are "
            "not as shown, and a candidate's place in them tells its label: leave it out"
        )
    relations = build_relations(engine, tables, recipe, told)
    planned = plan_fields(recipe, tables)
    check_types(relations, planned)
    relations = split_texts(engine, relations, planned)
    told("fitting vocabularies on the training period")
    training = Training(engine, relations, planned)
    vocabularies = training.vocabularies()
    folder = result_folder(work)
    kept = Kept(folder)
    keeps = isinstance(source, GrowingSource) and recipe.negatives == "none"
    uncoded = kept.uncoded if keeps else None
    writer = DatasetWriter(engine, relations, planned, vocabularies, folder, work / "notes", uncoded)
    writer.encode(recipe, [role_name(tables, name) for name in recipe.predefined_scenario], told)
    facts = None
    if isinstance(source, GrowingSource) and keeps:
        told_apart = source.files(), source.described()
        facts = facts_of(recipe, relations.cuts, *told_apart, writer.written.true_labels).model_dump(mode="json")
        kept.find_unknown_items(engine, relations)
        if recipe.repeat is not None:
            kept.write_counted(engine, relations, Folders(folder, relation_folder(work / "notes", "history")))
    told("checking the dataset")
    own = None
    if tables.events is not None:
        own = own_events(engine, relations.stored_events, relations.candidates, relations.items, recipe.history.delay)
    checks = _check(engine, relations, tables, writer, Inspector(folder, writer.splits), own, training)
    checks.write(folder)
    write_rejected(engine, tables, relations, folder)
    types = under_own_names(value_types(relations, planned, vocabularies, recipe), tables)
    _write_manifest(folder, writer, relations, tables, recipe, identity, types, facts)
    return checks


def _write_extended(
    engine: Engine,
    source: Source,
    recipe: Recipe,
    work: Path,
    of: tuple[Dataset, str, str],
    told: Callable[[str], None],
) -> Checks:
    """The extended dataset's folder: of a dataset, by the fingerprints of its log now and of itself."""
    before, log, identity = of
    made = extend(engine, source, recipe, before, work, told)
    folder, manifest = made.folder, made.manifest
    told("checking the dataset")
    inspector, earlier = Inspector(folder, manifest.splits), read_checks(before.folder)
    checks = _check(engine, made.relations, made.tables, made.writer, inspector, earlier.own_events, before=earlier)
    checks.write(folder)
    write_rejected(engine, made.tables, made.relations, folder, before.folder)
    names = {"extends": before.manifest.fingerprint, "log": log, "fingerprint": identity}
    write_manifest(folder, manifest.model_copy(update={**names, "checksums": checksums_of(folder)}))
    return checks


def fingerprint(source: Source, recipe: Recipe) -> str:
    """Equal for equal recipes, sources, versions and formats."""
    content = json.dumps([FORMAT, __version__, source.fingerprint(), recipe.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _check(
    engine: Engine,
    relations: Relations,
    tables: Tables,
    writer: DatasetWriter,
    inspector: Inspector,
    own: OwnEvents | None,
    training: Training | None = None,
    before: Checks | None = None,
) -> Checks:
    """Inspect the dataset, and refuse what cannot recur unless that was done before; `before` is of what it extends."""

    def look_at(checked: tuple[PlannedField, Field]) -> FeatureCheck:
        entry, field = checked
        if entry.side == "history":
            return inspector.history(field, relations.cuts.valid_from)
        missing = writer.written.missing.get(f"{entry.side}/{entry.name}")
        if missing is not None and before is not None:
            missing = before.missing_with(field, missing, writer.candidates)
        return inspector.feature(field, missing)

    checked = list(writer.checked_fields())
    with ThreadPoolExecutor(min(COLUMNS_AT_ONCE, os.cpu_count() or 1)) as threads:
        features = list(threads.map(look_at, checked))
    if training is not None:
        unseen = {entry: found.unseen or 0.0 for (entry, _), found in zip(checked, features, strict=True)}
        training.refuse_unrepeatable(unseen)
    periods = [inspector.period(split) for split in PERIOD_NAMES]
    repeat_auc = inspector.repeat_auc()
    warnings = [
        *leak_warnings(features, repeat_auc, own),
        *feature_warnings(features, (tables.user_column, tables.item_column)),
        *log_warnings(engine, relations),
        *list_warnings(engine, relations, (entry for entry, _ in checked)),
        *period_warnings(periods),
    ]
    rows = count_rows(relations, tables, writer)
    return Checks(
        protocol=relations.protocol,
        timezone=tables.timezone,
        rows=rows if before is None else sum_of_rows(before.rows, rows),
        periods=periods,
        features=features,
        repeat_auc=repeat_auc,
        own_events=own,
        warnings=warnings,
    )


def _write_manifest(
    folder: Path,
    writer: DatasetWriter,
    relations: Relations,
    tables: Tables,
    recipe: Recipe,
    identity: str,
    types: dict[str, ValueType],
    kept: dict[str, Any] | None,
) -> None:
    manifest = Manifest(
        version=__version__,
        fingerprint=identity,
        kept=kept,
        protocol=relations.protocol,
        timezone=tables.timezone,
        negative_sampling_rate=tables.negative_sampling_rate,
        users=writer.users - 1,
        items=writer.items - 1,
        events=writer.event_counts.in_history,
        requests=writer.requests,
        candidates=writer.candidates,
        splits=writer.splits,
        fields=writer.fields,
        vocabularies=dict(sorted(writer.written.sizes.items())),
        numeric={name: transform.model_dump() for name, transform in sorted(writer.written.transforms.items())},
        vectors={name: scale.model_dump() for name, scale in sorted(writer.written.vectors.items())},
        history_length=recipe.history.length,
        has_repeats=recipe.repeat is not None,
        relative=recipe.features.relative,
        predefined_scenarios=writer.written.predefined_scenarios,
        true_scenarios=writer.written.true_scenarios,
        user_column=tables.user_column,
        item_column=tables.item_column,
        event_columns=under_own_names(relations.columns.event, tables),
        key_columns=under_own_names(relations.columns.key, tables),
        value_types=types,
        missing_texts=tables.missing_texts,
        time_layouts=tables.time_layouts,
        checksums=checksums_of(folder),
    )
    write_manifest(folder, manifest)


def same_dataset(out: Path, fingerprint: str) -> Dataset | None:
    """The dataset that is there already, if it is undamaged and of the same recipe and source, extended or not."""
    try:
        dataset = Dataset(out)
        if fingerprint not in (dataset.manifest.fingerprint, dataset.manifest.log):
            return None
    except DatasetError:
        return None
    return dataset
