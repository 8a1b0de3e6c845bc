"""A log becomes a dataset: the order of the steps, each of which is a function in a file beside this one."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from musenet import __version__
from musenet.data.accounts import count_rows, log_warnings, write_rejected
from musenet.data.checks import Checks, FeatureCheck, leak_warnings, period_warnings, read_checks
from musenet.data.columns import role_name
from musenet.data.dataset import FORMAT, Dataset, Manifest, checksum
from musenet.data.dataset_writer import DatasetWriter
from musenet.data.encoding import check_types, split_texts
from musenet.data.engine import Engine, failures_explained, open_engine
from musenet.data.fields import PlannedField, plan_fields
from musenet.data.fitting import Training
from musenet.data.inspection import Inspector, own_events
from musenet.data.recipe import Recipe
from musenet.data.relations import Relations, build_relations
from musenet.data.split import PERIOD_NAMES
from musenet.data.tables import Source, Tables
from musenet.data.workspace import install, result_folder, same_dataset, workspace


@dataclass(frozen=True)
class PreparedReport:
    """What `prepare` made, or found made already."""

    dataset: Dataset
    checks: Checks
    """To be shown with `musenet.data.checks.render`."""
    reused: bool
    """The same recipe and source had been prepared before: nothing was written."""

    @property
    def folder(self) -> Path:
        """Where the dataset lies."""
        return self.dataset.folder


def _silent(_: str) -> None:
    pass


def prepare(source: Source, recipe: Recipe, out: Path, *, progress: Callable[[str], None] = _silent) -> PreparedReport:
    """Turn a log into a dataset in the folder `out`.

    The folder appears whole or not at all; a dataset of another recipe or log is replaced, the same one is kept.

    Args:
        source: yields the log's tables.
        recipe: what the dataset shall hold.
        out: its folder.
        progress: told of each step.

    Raises:
        DataError: if the log cannot be used as the recipe says.
        DatasetError: if `out` is in use or holds something else.
        UserError: if the disk is full.
    """
    identity = fingerprint(source, recipe)
    with failures_explained(out.parent), workspace(out) as work:
        dataset = same_dataset(out, identity)
        if dataset is not None:
            progress(f"{out} holds this dataset already")
            return PreparedReport(dataset, read_checks(out), reused=True)
        with open_engine(work) as engine:
            progress("reading the log")
            tables = source.tables(engine.connection)
            relations = build_relations(engine, tables, recipe, progress)
            planned = plan_fields(recipe, tables)
            check_types(relations, planned)
            relations = split_texts(relations, planned)
            progress("fitting vocabularies on the training period")
            training = Training(engine, relations, planned)
            folder = result_folder(work)
            writer = DatasetWriter(engine, relations, planned, training.vocabularies(), folder)
            progress("encoding")
            writer.encode(recipe.true_probability)
            writer.write_truth([role_name(tables, name) for name in recipe.predefined_scenario], recipe.true_scenario)
            writer.write_keys()
            progress("checking the dataset")
            checks = _check(engine, relations, tables, recipe, training, writer, folder)
            _write_manifest(folder, writer, relations, tables, recipe, identity)
        progress("putting the dataset into its place")
        install(work, out)
    return PreparedReport(Dataset(out), checks, reused=False)


def fingerprint(source: Source, recipe: Recipe) -> str:
    """Equal for equal recipes, sources, versions and formats."""
    content = json.dumps([FORMAT, __version__, source.fingerprint(), recipe.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _check(
    engine: Engine,
    relations: Relations,
    tables: Tables,
    recipe: Recipe,
    training: Training,
    writer: DatasetWriter,
    folder: Path,
) -> Checks:
    """Inspect the dataset, refuse what cannot recur, write `checks.json` and `rejected.parquet`."""
    inspector = Inspector(folder, writer.splits, recipe.repeat is not None)
    features: list[FeatureCheck] = []
    unseen: dict[PlannedField, float] = {}
    for entry, field in writer.checked_fields():
        if entry.side == "history":
            found = inspector.history(field, relations.cuts.valid_from)
        else:
            found = inspector.feature(field, writer.missing.get((entry.side, entry.name)))
        features.append(found)
        unseen[entry] = found.unseen or 0.0
    training.refuse_unrepeatable(unseen)
    periods = [inspector.period(split) for split in PERIOD_NAMES]
    repeat_auc = inspector.repeat_auc()
    own = None
    if tables.events is not None:
        own = own_events(engine, relations.stored_events, relations.candidates, relations.items, recipe.history.delay)
    warnings = [
        *leak_warnings(features, repeat_auc, own),
        *log_warnings(engine, relations),
        *period_warnings(periods),
    ]
    checks = Checks(
        protocol=relations.protocol,
        timezone=tables.timezone,
        rows=count_rows(relations, tables, writer),
        periods=periods,
        features=features,
        repeat_auc=repeat_auc,
        own_events=own,
        warnings=warnings,
    )
    checks.write(folder)
    write_rejected(engine, tables, relations, folder)
    return checks


def _write_manifest(
    folder: Path, writer: DatasetWriter, relations: Relations, tables: Tables, recipe: Recipe, identity: str
) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        version=__version__,
        fingerprint=identity,
        protocol=relations.protocol,
        timezone=tables.timezone,
        negative_sampling_rate=tables.negative_sampling_rate,
        users=writer.users - 1,
        items=writer.items - 1,
        events=writer.events,
        requests=writer.requests,
        candidates=writer.candidates,
        splits=writer.splits,
        fields=writer.fields,
        vocabularies=dict(sorted(writer.sizes.items())),
        numeric={name: transform.model_dump() for name, transform in sorted(writer.transforms.items())},
        history_length=recipe.history.length,
        has_repeats=recipe.repeat is not None,
        predefined_scenarios=writer.predefined_scenarios,
        true_scenarios=writer.true_scenarios,
        user_column=tables.user_column,
        item_column=tables.item_column,
        checksums={name: checksum(folder / name) for name in files},
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
