"""From a run to one folder that a service needs and nothing else does: see `manifest.py` for what is in it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet import __version__
from musenet.config.experiment import Experiment
from musenet.dataset.batch import schema_of
from musenet.dataset.column_files import BLOCK, NewColumn, write_column
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import RELATIONS
from musenet.dataset.manifest import FIRST_VALUE, Field, FieldSide, table_rows
from musenet.dataset.roles import ITEM, USER, LogTable
from musenet.dataset.texts import text_of
from musenet.errors import ExportError, RunError, missing_extra
from musenet.files import checksum, full_disk_explained, write_json, write_text
from musenet.models.interface import ClickModel
from musenet.models.vectors import projection_of
from musenet.portraits.names import scenario_names
from musenet.recipe.features import MultiValuedOptions
from musenet.runs.run import Run, load_model
from musenet.runs.versions import versions
from musenet.serving.drift.reference import REFERENCE
from musenet.serving.export.reference import reference_of
from musenet.serving.manifest import MANIFEST, PROJECTIONS, SCENARIOS, ExportManifest, LogColumns, read_export
from musenet.serving.scorer.repeats import checksums
from musenet.serving.text_index import TextIndex
from musenet.sources.files.options import OwnFilesOptions, TimeColumn
from musenet.workspace import install, result_folder, workspace

IDS: dict[FieldSide, str] = {"user": USER, "item": ITEM}
DIGITS = 12
"""Of the weights' checksum that a model's version shows."""


def export_run(
    run: Run, out: Path, describe: Callable[[Run], dict[str, Any] | None] = lambda _: None
) -> ExportManifest:
    """Write what serving a run takes into the folder `out`, whole or not at all; another export there is replaced.

    Args:
        run: a trained run.
        out: the folder.
        describe: what the service's page shall say of the run's scenarios; None if there is nothing to say.

    Raises:
        RunError: if the folder holds no trained run, or one whose model cannot be served.
        ExportError: if `out` holds something else.
        UserError: if the extra `serve` is not installed, or the disk is full.
    """
    _check_target(out)
    model, dataset, experiment = load_model(run.folder), run.dataset, run.experiment
    check_servable(dataset, experiment, run.path)
    try:
        from musenet.serving.export.graphs import export_graphs
    except ImportError as error:
        raise missing_extra("exporting needs ONNX", "serve") from error
    with full_disk_explained(out.parent), workspace(out, f"export {uuid4()}") as work:
        folder = result_folder(work)
        write_column(folder, "embeddings", model.table.weight.detach().numpy())
        projections = _write_projections(model, dataset, folder / PROJECTIONS)
        for side in IDS:
            _write_entities(dataset, side, projections, folder / RELATIONS[side])
        _write_attributes(dataset, folder / "items")
        _write_vocabularies(dataset, folder / "vocabularies")
        export_graphs(model, schema_of(dataset).projected, folder)
        description = describe(run)
        if description is not None:
            write_json(folder / SCENARIOS, description)
        reference = reference_of(run)
        if reference is not None:
            reference.write(folder / REFERENCE)
        manifest = _manifest(folder, run, model, scenario_names(run))
        write_text(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        install(work, out)
    return read_export(out)


def check_servable(dataset: Dataset, experiment: Experiment, run: Path) -> None:
    """Raise unless a model's answers can be given outside its dataset.

    Raises:
        RunError: saying why not.
    """
    if experiment.model.unservable is not None:
        raise RunError(f"{run} cannot be exported: {experiment.model.unservable}")
    if not experiment.model.by_gradient:
        raise RunError(
            f"{run} cannot be exported: {experiment.model.name} is not a network, and only networks become graphs: "
            "export another model"
        )
    for field in dataset.fields("history"):
        if field.kind == "multi_valued":
            raise RunError(
                f"{run} cannot be exported: the history column '{field.column}' holds several values; leave it out of "
                "history.columns"
            )
    manifest = dataset.manifest
    past = {*experiment.history.columns, *(experiment.repeat.key if experiment.repeat else [])}
    if (manifest.event_columns is None or manifest.key_columns is None) and past - {manifest.item_column}:
        raise RunError(
            f"{dataset.folder} was prepared by a version that did not keep what events and repeat keys look up: remove "
            "it, prepare it again (the run stays valid), then export"
        )
    if manifest.user_column in past:
        raise RunError(f"{run} cannot be exported: '{manifest.user_column}' is the user id, which every event shares")


def version_of(run: Run) -> str:
    """The experiment's name and the first digits of a checksum of the weights, and of what recalibrates them if they
    are: what an export's scorer calls itself."""
    calibration = run.calibration
    if calibration is None:
        return f"{run.experiment.name}-{run.model_checksum[:DIGITS]}"
    digest = hashlib.sha256(calibration.model_dump_json().encode()).hexdigest()  # which names the weights too
    return f"{run.experiment.name}-{digest[:DIGITS]}"


def _check_target(out: Path) -> None:
    """Raise unless nothing would be lost; an export is replaced even if it is damaged."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    manifest = out / MANIFEST
    if not manifest.is_file() or '"model_version"' not in manifest.read_text(encoding="utf-8", errors="replace"):
        raise ExportError(f"{out} exists and is not an export: name another folder, or remove it")


def _write_projections(model: ClickModel, dataset: Dataset, folder: Path) -> dict[Field, NDArray[np.float32]]:
    """(width, projection) by which each vector is projected."""
    vectors = [field for field in dataset.manifest.fields if field.kind == "vector"]
    found = {field: projection_of(model, field).detach().numpy().T for field in vectors}
    for field, weight in found.items():
        write_column(folder, f"{field.side}.{field.name}", weight)
    return found


def _write_entities(
    dataset: Dataset, side: FieldSide, projections: Mapping[Field, NDArray[np.float32]], folder: Path
) -> None:
    """Codes, numbers and projected vectors of all users or items, and where each of the log's ids stands."""
    ids = dataset.keys(RELATIONS[side], [IDS[side]])[IDS[side]]
    coded = [field for field in dataset.fields(side) if field.has_codes]
    plain = [field for field in dataset.fields(side) if field.kind == "dense"]
    projected = {field: weight for field, weight in projections.items() if field.side == side}
    widths = sum(field.width for field in coded), len(plain) + sum(weight.shape[1] for weight in projected.values())
    with (
        NewColumn(folder, "codes", (len(ids), widths[0]), np.int32) as codes,
        NewColumn(folder, "dense", (len(ids), widths[1]), np.float32) as dense,
    ):
        for begin in range(0, len(ids), BLOCK):
            part = slice(begin, begin + BLOCK)
            rows = len(ids[part])
            numbers = [dataset.values(field, part)[:, None] for field in plain]
            numbers += [dataset.values(field, part) @ weight for field, weight in projected.items()]
            codes.append(np.concatenate([_embedding_rows(dataset, field, part) for field in coded], axis=1))
            dense.append(np.concatenate([np.zeros((rows, 0), dtype=np.float32), *numbers], axis=1))
    TextIndex.write(folder, "ids", text_of(ids.combine_chunks())[1:], first=1)


def _embedding_rows(dataset: Dataset, field: Field, part: slice) -> NDArray[np.int64]:
    """(rows, width) rows of the embedding table of some of a field's codes."""
    offset = dataset.embedding_offset[field.vocabulary_name]
    return table_rows(dataset.values(field, part), offset).reshape(-1, field.width)


def _write_attributes(dataset: Dataset, folder: Path) -> None:
    """The items' columns that events look up, and the text of those that the repeat key does, row by row."""
    columns = dataset.keys("items").drop_columns([ITEM]).combine_chunks()
    looked_up = {
        name: {one for one, origin in (origins or {}).items() if origin == "items"} & set(columns.column_names)
        for name, origins in (("events", dataset.manifest.event_columns), ("keys", dataset.manifest.key_columns))
    }
    write_table(folder / "attributes.arrow", columns.select(sorted(looked_up["events"])))
    key = [name for name in dataset.manifest.key_columns or {} if name in looked_up["keys"]]
    texts = {name: text_of(columns[name].combine_chunks()) for name in key}
    write_table(folder / "keys.arrow", pa.table(texts))
    write_column(folder, "keys", checksums(zip(*(column.to_pylist() for column in texts.values()), strict=True)))


def write_table(file: Path, table: pa.Table) -> None:
    """Write an Arrow file of one chunk, which can be mapped into memory."""
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_batch(
            pa.RecordBatch.from_arrays([one.combine_chunks() for one in table.columns], schema=table.schema)
        )


def _write_vocabularies(dataset: Dataset, folder: Path) -> None:
    """The values of every vocabulary that is looked up; buckets are computed."""
    folder.mkdir()
    bucketed = {field.vocabulary for field in dataset.manifest.fields if field.is_bucketed}
    for name in dataset.manifest.vocabularies:
        if name not in bucketed:
            TextIndex.write(folder, name, dataset.texts(name), first=FIRST_VALUE)


def _manifest(folder: Path, run: Run, model: ClickModel, names: list[str]) -> ExportManifest:
    data, experiment = run.dataset.manifest, run.experiment
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    events: Sequence[str] = [*experiment.history.columns, *(experiment.repeat.key if experiment.repeat else [])]
    origins, key_origins = data.event_columns or {}, data.key_columns or {}
    return ExportManifest(
        name=experiment.name,
        model_version=version_of(run),
        model=experiment.model.model_dump(mode="json", by_alias=True),
        scenarios=model.scenario_count(),
        scenario_names=names,
        protocol=data.protocol,
        timezone=data.timezone,
        negative_sampling_rate=data.negative_sampling_rate,
        calibration=run.calibration,
        user_column=data.user_column,
        item_column=data.item_column,
        log=_log_columns(experiment, data.time_layouts),
        users=data.users,
        items=data.items,
        fields=data.fields,
        vocabularies=data.vocabularies,
        numeric=data.numeric,
        vectors=data.vectors,
        relative=data.relative,
        separators={
            feature.name: feature.options.multi_valued
            for feature in experiment.features.resolved()
            if isinstance(feature.options, MultiValuedOptions)
        },
        history=experiment.history,
        repeat=experiment.repeat,
        event_columns={name: "items" if origins.get(name) == "items" else "events" for name in events},
        key_columns={
            name: "items" if key_origins.get(name) == "items" else "request"
            for name in (experiment.repeat.key if experiment.repeat else [])
        },
        predefined_columns=experiment.predefined_scenario,
        predefined_scenarios=data.predefined_scenarios,
        value_types=data.value_types,
        missing_texts=data.missing_texts,
        drift=experiment.drift,
        versions=versions() | {"exported_by": __version__},
        checksums={name: checksum(folder / name) for name in files},
    )


def _log_columns(experiment: Experiment, layouts: Mapping[LogTable, str]) -> LogColumns:
    """As the configuration names them; a public log's files are nobody's own."""
    data, longest = experiment.data, experiment.recipe.requests.longest
    if not isinstance(data, OwnFilesOptions):
        return LogColumns(longest=longest)
    shown, events = data.impressions, data.events
    of_events: dict[str, Any] = {"kind": None, "label": shown.label, "positive_kinds": shown.positive_kinds}
    if events is not None:
        time = _written(events.time, layouts.get("events"))
        own = {"event_user": events.user, "event_item": events.item, "event_time": time}
        of_events = own | {"kind": events.kind}
    labels: dict[str, Any] = {"shown_label": shown.label, "positives": shown.positive_kinds}
    return LogColumns(
        time=_written(shown.time, layouts.get("impressions")),
        request=shown.request,
        longest=longest,
        **labels,
        **of_events,
    )


def _written(time: str | TimeColumn, layout: str | None) -> TimeColumn:
    """As the configuration says, and where it does not, as preparation saw."""
    written = TimeColumn(column=time) if isinstance(time, str) else time
    return written if layout is None else written.model_copy(update={"format": layout})
