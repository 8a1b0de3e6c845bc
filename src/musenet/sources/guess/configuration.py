"""`musenet init`: look at a log's files and write a configuration to start from, with its doubts as comments."""

import os
import re
from pathlib import Path

import ibis

from musenet.engines.engine import Engine
from musenet.errors import UserError
from musenet.files import write_text
from musenet.sources.files.opening import open_files
from musenet.sources.files.paths import find_files
from musenet.sources.guess.features import FeatureGuess, guess_features, yaml_name
from musenet.sources.guess.profiles import TableProfile, profile_table, time_span
from musenet.sources.guess.roles import EXPOSURE, LogRoles, Roles, guess_roles

_HISTORY_COLUMNS = 4


def write_config(files: list[Path], out: Path) -> None:
    """Write the guessed configuration to a file that must not exist yet; its paths start from that file's folder.

    Raises:
        UserError: if the file exists.
        DataError: if the log's files cannot be read or make no log.
    """
    if out.exists():
        raise UserError(f"{out} exists already and is never overwritten: give another name with --out, or move it away")
    write_text(out, guess_config(files, out.parent))


def guess_config(files: list[Path], base: Path | None = None) -> str:
    """A commented YAML configuration for a log.

    Args:
        files: Parquet or CSV files; several with the same columns are taken as one table.
        base: the folder that its paths start from; the current one, if left out.

    Raises:
        DataError: if a file cannot be read, or none can be the impressions.
    """
    if not files:
        raise UserError("musenet init needs at least one Parquet or CSV file: name the files of your log")
    connection = ibis.duckdb.connect()
    try:
        tables = _group(connection, files)
        log = guess_roles(connection, tables)
        features = guess_features(connection, log)
        return "\n".join(_write(connection, log, features, base or Path())) + "\n"
    finally:
        connection.disconnect()


def _group(connection: ibis.BaseBackend, files: list[Path]) -> list[TableProfile]:
    """Profiles of the tables; files with the same columns are parts of one."""
    engine = Engine(connection)
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in files:
        found = find_files("FILES", str(path.absolute()), Path())
        columns = tuple(open_files(engine, "FILES", found).table.columns)
        groups.setdefault(columns, []).extend(found)
    return [profile_table(connection, open_files(engine, "FILES", paths)) for paths in groups.values()]


def _write(connection: ibis.BaseBackend, log: LogRoles, features: FeatureGuess, base: Path) -> list[str]:
    lines = [
        "# Guessed by `musenet init` from the files named below: look through it, then run",
        "#   musenet prepare <this file>",
        "# docs/your-own-log.md explains every key. A line that begins with `# ?` is a doubt.",
        f"name: {_name(log.impressions)}",
        "seed: 1 # decides initial weights and the order of batches",
        "data:",
        "  source: own_files",
        *_write_impressions(connection, log.impressions, base),
        *_write_part("events", log.events, base),
        *_write_part("users", log.users, base),
        *_write_part("items", log.items, base),
        "  timezone: UTC # of times without an offset, of hours, weekdays and the split's days; e.g. Europe/Berlin",
        *(f"  # ? not used: {reason}" for reason in log.left_out),
        *_write_features(log, features),
        *_write_history(log, features),
        *_write_split(connection, log.impressions),
        *_write_negatives(log.impressions),
        "predefined_scenario: [] # context columns whose combination is a scenario you know of",
        *_write_truth(log.impressions),
        "model: {name: musenet, assignment: soft, scenarios: 4}",
        "training: {epochs: 2, batch_size: 1024, learning_rate: 0.001}",
    ]
    return lines


def _name(roles: Roles) -> str:
    path = roles.table.file.paths[0].absolute()
    stem = path.parent.name if path.stem in ("impressions", "log", "train", "data") else path.name.split(".")[0]
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "my-log"


def _paths(roles: Roles, base: Path) -> str:
    relative = [os.path.relpath(path, base.absolute()) for path in roles.table.file.paths]
    quoted = ['"' + path.replace("\\", "/").replace('"', '\\"') + '"' for path in relative]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"


def _write_impressions(connection: ibis.BaseBackend, roles: Roles, base: Path) -> list[str]:
    time, label = roles.column("time"), roles.columns.get("label")
    remarks = {role: f"{roles.column(role).values:,} values" for role in ("user", "item")}
    span = time_span(connection, roles.table.table, time)
    unit = f"integers that count {time.unit}: " if time.unit else ""
    remarks["time"] = f"{unit}{span[0]:%Y-%m-%d} to {span[1]:%Y-%m-%d}" if span else ""
    if label and not roles.positive_kinds:
        remarks["label"] = f"1 in {roles.column('label').positive_share:.1%} of the rows"
    lines = ["  impressions:", f"    path: {_paths(roles, base)} # {roles.table.rows:,} rows"]
    for role in ("user", "item", "time", "label", "request"):
        lines += _write_role(roles, role, remarks.get(role, ""))
    if roles.positive_kinds:
        lines.append(f"    positive_kinds: [{', '.join(yaml_name(kind) for kind in roles.positive_kinds)}]")
    if not label:
        lines.append(
            "    # ? no column of 0 and 1 was found, so every row is taken as a positive; otherwise: label: <column>"
        )
    if "request" not in roles.columns:
        lines.append("    # no request id was found: what one user was shown at one time is a request")
    return lines


def _write_role(roles: Roles, role: str, remark: str = "") -> list[str]:
    if role not in roles.columns:
        return []
    doubt = [f"    # ? {role}: {roles.doubts[role]}"] if role in roles.doubts else []
    return [*doubt, f"    {role}: {yaml_name(roles.columns[role])}{f' # {remark}' if remark else ''}"]


def _write_part(name: str, roles: Roles | None, base: Path) -> list[str]:
    if roles is None:
        if name != "events":
            return []
        return ["  # events: none were found, so the earlier positives of the impressions are the history"]
    lines = [f"  {name}:", f"    path: {_paths(roles, base)} # {roles.table.rows:,} rows"]
    for role in ("user", "item", "time", "kind"):
        remark = ", ".join(roles.kinds) if role == "kind" else ""
        lines += _write_role(roles, role, remark)
    return lines


def _write_features(log: LogRoles, guess: FeatureGuess) -> list[str]:
    clocks = [name for name in ("hour", "weekday") if name not in log.impressions.table.columns]
    context = [*guess.sides["context"], *((name, "from the time, on the local clock") for name in clocks)]
    lines = [
        "features: # categorical, unless said otherwise: numeric (log, standardise, quantiles), multi_valued, position"
    ]
    for side, entries in (guess.sides | {"context": context}).items():
        lines.append(f"  {side}:{'' if entries else ' []'}")
        lines += [f"    - {entry}{f' # {remark}' if remark else ''}" for entry, remark in entries]
    return lines + [f"  # ? left out: {reason}" for reason in guess.left_out]


def _write_history(log: LogRoles, guess: FeatureGuess) -> list[str]:
    impressions, events = log.impressions, log.events
    has_items = events is None or "item" in events.columns
    item = yaml_name(impressions.columns["item"])
    own = set(events.table.columns) if events else set()
    described = [yaml_name(name) for name in guess.describing if has_items or name in own][:_HISTORY_COLUMNS]
    columns = [*([item] if has_items else []), *described]
    answers = [kind for kind in (events.kinds if events else []) if not re.search(EXPOSURE, kind.lower())]
    kinds = f", kinds: [{', '.join(yaml_name(kind) for kind in answers)}]" if answers else ""
    lines = [f"history: {{columns: [{', '.join(columns)}], length: 50{kinds}, delay: 0}}"]
    if has_items:
        return [*lines, f"repeat: {{key: [{item}]{kinds}}} # or a category: what counts as `had this before`"]
    return [
        *lines,
        "# ? repeat: the events do not say of which item they are: name a column that events and items share",
    ]


def _write_split(connection: ibis.BaseBackend, roles: Roles) -> list[str]:
    span = time_span(connection, roles.table.file.table, roles.column("time"))
    days = (span[1].date() - span[0].date()).days + 1 if span else 0
    if days < 4:
        return [f"split: {{parts: 10, test: 1, valid: 1}} # the log spans {days} days: equal parts in order of time"]
    test, valid = min(14, max(1, round(days / 8))), min(7, max(1, round(days / 16)))

    def count(number: int) -> str:
        return f"{number} day{'s' if number > 1 else ''}"

    return [f"split: {{test: {count(test)}, valid: {count(valid)}}} # the last days of {days}"]


def _write_negatives(roles: Roles) -> list[str]:
    if "label" in roles.columns:
        return ["negatives: none"]
    return ["negatives: {per_request: 20, from: popular} # sampled, since the log holds positives alone"]


def _write_truth(roles: Roles) -> list[str]:
    truth = {"true_scenario": "null", "true_probability": "null"}
    truth |= {name: name for name in truth if name in roles.table.columns}
    lines = [
        f"{key}: {value} # a generator's column; never a feature" for key, value in truth.items() if value != "null"
    ]
    return lines or ["true_scenario: null # a generator's column; never a feature"]
