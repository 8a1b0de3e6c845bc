"""`musenet init`: look at a log's files and write a configuration to start from, with its doubts as comments."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import ibis
import yaml

from musenet.engines.engine import Engine, failures_explained
from musenet.errors import DataError, UserError
from musenet.files import write_text
from musenet.frames import KEPT_FRAME
from musenet.sources.files.opening import open_files, tables_among
from musenet.sources.files.paths import find_files, folder_values, is_beside, names_among
from musenet.sources.files.places import is_remote, whole
from musenet.sources.guess.features import FeatureGuess, guess_features
from musenet.sources.guess.joining import LogRoles, guess_roles, told_roles
from musenet.sources.guess.names import SHOWN, yaml_name
from musenet.sources.guess.periods import Periods, guess_periods
from musenet.sources.guess.profiles import TableProfile, local_date, profile_table, zone_of_times
from musenet.sources.guess.roles import Roles
from musenet.sources.guess.training import write_compare, write_model, write_training
from musenet.sources.log import Log

NAMED_BY_ITSELF = "musenet.yaml"
_HISTORY_COLUMNS = 4
_NEGATIVES = 20


def write_config(files: list[Path], out: Path) -> None:
    """Write the guessed configuration to a file that must not exist yet; its paths start from that file's folder.

    The experiment is called like the file, if that has another name than the one it gets by itself.

    Raises:
        UserError: if the file exists.
        DataError: if the log's files cannot be read or make no log.
    """
    if out.exists():
        raise UserError(f"{out} exists already and is never overwritten: give another name with --out, or move it away")
    write_text(out, guess_config(files, out.parent, "" if out.name == NAMED_BY_ITSELF else out.stem))


def guess_config(log: Sequence[Path] | Log, base: Path | None = None, name: str = "") -> str:
    """A commented YAML configuration for a log.

    Args:
        log: its tables by what they hold; or Parquet or CSV files, of which several with the same columns are taken as
            one table and what they hold is guessed too.
        base: the folder that its paths start from; the current one, if left out.
        name: of the experiment; told by the log's files, if left out.

    Raises:
        DataError: if a file cannot be read, or none can be the impressions.
    """
    if not isinstance(log, Log) and not log:
        raise UserError("musenet init needs at least one Parquet or CSV file: name the files of your log")
    engine = Engine(ibis.duckdb.connect())
    try:
        with failures_explained(Path.cwd()):
            if isinstance(log, Log):
                roles = told_roles(engine, {name: _told(engine, name, paths) for name, paths in log.paths.items()})
            else:
                roles = guess_roles(engine, _group(engine, log))
            periods = guess_periods(engine, roles.impressions)
            features = guess_features(engine, roles, periods)
        named = _name(name) if name else _name_of(roles.impressions)
        return "\n".join(_write(named, roles, periods, features, base or Path())) + "\n"
    finally:
        engine.close()


def doubts_of_roles(config: str) -> list[str]:
    """What a written configuration doubts of tables, users, items, times and labels: all figures depend on these."""
    return re.findall(r"^ *# \? (.*)$", config.partition("\nfeatures:")[0], re.MULTILINE)


def _told(engine: Engine, name: str, paths: str | list[str]) -> TableProfile:
    return _profile(engine, name, find_files(name, paths, Path()))


def _profile(engine: Engine, key: str, paths: list[Path]) -> TableProfile:
    """With the columns that the names of folders hold below the one that all files lie in."""
    named = {name for path in names_among(paths) for name in folder_values(Path(path))}
    if named:
        named |= set(open_files(engine, key, paths, stored=False).table.columns)
    return profile_table(engine, open_files(engine, key, paths, named=named or None))


def _group(engine: Engine, files: Sequence[Path]) -> list[TableProfile]:
    """Profiles of the tables; files of one format with the same columns are parts of one."""
    groups: dict[tuple[bool, frozenset[str]], list[Path]] = {}
    for place in sorted({whole(str(path), Path.cwd()) for path in files}):
        for found in tables_among(engine, find_files("FILES", place, Path())):
            opened = open_files(engine, "FILES", found, stored=False)
            groups.setdefault((opened.is_parquet, frozenset(opened.table.columns)), []).extend(found)
    return [_profile(engine, "FILES", paths) for paths in groups.values()]


def _write(name: str, log: LogRoles, periods: Periods, features: FeatureGuess, base: Path) -> list[str]:
    zone = zone_of_times(log.impressions.table.file, log.impressions.columns["time"])
    its_own = "" if zone == "UTC" else f"as {log.impressions.columns['time']} says: "
    return [
        "# Guessed by `musenet init` from the files named below: look through it, then run",
        "#   musenet prepare <this file>, musenet train <this file>, or musenet compare <this file>",
        "# docs/your-own-log.md explains every key. A line that begins with `# ?` is a doubt.",
        f"name: {name}",
        "seed: 1 # decides initial weights and the order of batches",
        "data:",
        "  source: own_files",
        *_write_impressions(log.impressions, periods, zone, base),
        *_write_part("events", log.events, base),
        *_write_part("users", log.users, base),
        *_write_part("items", log.items, base),
        f"  timezone: {zone} # {its_own}of times without an offset, of hours, weekdays and the split's days"
        + ("; e.g. Europe/Berlin" if zone == "UTC" else ""),
        *(f"  # ? not used: {reason}" for reason in log.left_out),
        *_write_features(features),
        *_write_history(log, features),
        periods.split,
        *_write_negatives(log.impressions, periods),
        "predefined_scenario: [] # context columns whose combination is a scenario you know of",
        *_write_truth(log.impressions),
        *write_model(periods),
        *write_training(periods, _negatives(log.impressions, periods)),
        *write_compare(
            periods,
            has_repeats=_repeat_key(log, features) is not None,
            describes_events=bool(_described(log, features)),
        ),
    ]


def _name_of(roles: Roles) -> str:
    paths = roles.table.file.paths
    path = paths[0] if is_remote(paths[0]) else paths[0].absolute()
    if re.fullmatch(KEPT_FRAME, path.name):
        return "my-log"
    below = names_among(paths)[0].count("/") if len(paths) > 1 else 0
    by_folder = len(paths) > 1 or path.stem in ("impressions", "log", "train", "data")
    return _name(path.parents[below].name if by_folder else path.name.split(".")[0])


def _name(text: str) -> str:
    """What an experiment may be called, as YAML."""
    name = re.sub(r"[^\w-]+", "-", text).strip("-") or "my-log"
    return name if yaml.safe_load(name) == name else f'"{name}"'


def _paths(roles: Roles, base: Path) -> str:
    paths = roles.table.file.paths
    if len(paths) > 1:
        paths = _folder_of(paths, base) or paths
    relative = [str(path) if is_remote(path) else os.path.relpath(path, base.absolute()) for path in paths]
    quoted = ['"' + path.replace("\\", "/").replace('"', '\\"') + '"' for path in relative]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"


def _folder_of(paths: Sequence[Path], base: Path) -> list[Path] | None:
    """The folder in which these files lie, if it holds no others."""
    if any(map(is_remote, paths)):
        above = list(paths[0].parents)[names_among(paths)[0].count("/") :]
        with suppress(DataError):
            if above and {*map(str, find_files("FILES", str(above[0]), Path()))} == {*map(str, paths)}:
                return above[:1]
        return None
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    inside = [path for path in folder.rglob("*") if path.is_file() and not is_beside(path.relative_to(folder))]
    # The configuration itself would lie in a folder that holds `base`, and what else is put there.
    return [folder] if {*inside} == {*paths} and not base.absolute().is_relative_to(folder.absolute()) else None


def _write_impressions(roles: Roles, periods: Periods, zone: str, base: Path) -> list[str]:
    label, sample = roles.columns.get("label"), roles.table.sample
    remarks = {role: f"{roles.column(role).values:,} values{sample}" for role in ("user", "item")}
    integers = "integers: " if roles.column("time").in_integers else ""
    remarks["time"] = f"{integers}{local_date(periods.first, zone)} to {local_date(periods.last, zone)}"
    if label and not roles.positive_kinds:
        remarks["label"] = f"{roles.column('label').mean:.1%} of the rows are 1{sample}"
    lines = ["  impressions:", f"    path: {_paths(roles, base)} # {roles.table.rows:,} rows"]
    for role in ("user", "item", "time", "label", "request"):
        lines += _write_role(roles, role, remarks.get(role, ""))
    if roles.positive_kinds:
        lines.append(f"    positive_kinds: [{', '.join(map(yaml_name, roles.positive_kinds))}]")
    if not label:
        lines.append(
            "    # ? no column of 0 and 1 was found, so every row is taken as a positive; otherwise: label: <column>"
        )
        lines += [f"    # ? or: {line}" for line in roles.alternatives]
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


def _write_features(guess: FeatureGuess) -> list[str]:
    lines = [
        "features: # categorical, unless said otherwise: numeric (log, standardise, quantiles), multi_valued, vector, "
        "position"
    ]
    for side, entries in guess.sides.items():
        lines.append(f"  {side}:{'' if entries else ' []'}")
        above = ""
        for entry, remark in entries:
            told = "? as above" if remark == above and remark.startswith("?") else remark
            lines.append(f"    - {entry}{f' # {told}' if remark else ''}")
            above = remark
    return lines + [f"  # ? left out: {reason}" for reason in guess.left_out]


def _described(log: LogRoles, guess: FeatureGuess) -> list[str]:
    """Columns besides the item that say what an event was about."""
    own = set(log.events.table.columns) if log.events else set()
    return [name for name in guess.describing if _has_items(log) or name in own]


def _has_items(log: LogRoles) -> bool:
    return log.events is None or "item" in log.events.columns


def _repeat_key(log: LogRoles, guess: FeatureGuess) -> str | None:
    """The item, or else the first column that events share with items."""
    if _has_items(log):
        return log.impressions.columns["item"]
    shared = [name for name in _described(log, guess) if name in {column.name for column in log.item_columns}]
    return shared[0] if shared else None


def _write_history(log: LogRoles, guess: FeatureGuess) -> list[str]:
    item, key = [log.impressions.columns["item"]] if _has_items(log) else [], _repeat_key(log, guess)
    columns = ", ".join(yaml_name(name) for name in [*item, *_described(log, guess)[:_HISTORY_COLUMNS]])
    kinds = log.events.kinds if log.events else []
    done = [kind for kind in kinds if not re.search(SHOWN, kind.lower())]
    written = f", kinds: [{', '.join(yaml_name(kind) for kind in done)}]" if done else ""
    lines = [f"history: {{columns: [{columns}], length: 50{written}, delay: 0}}"]
    if len(done) < len(kinds):
        lines.append(f"# ? without {', '.join(kind for kind in kinds if kind not in done)}: shown is not done")
    if key:
        lines.append(f"repeat: {{key: [{yaml_name(key)}]{written}}} # what counts as `had this before`")
    if not _has_items(log):
        shared = f"{key} is what they share with the items" if key else "they share no column with the items"
        lines.append(f"# ? repeat: the events do not say of which item they are; {shared}")
    return lines


def _negatives(roles: Roles, periods: Periods) -> int:
    """How many are sampled for each request: no more than there are items that it did not take."""
    if "label" in roles.columns:
        return 0
    return max(1, min(_NEGATIVES, periods.train_items - periods.most_taken))


def _write_negatives(roles: Roles, periods: Periods) -> list[str]:
    number = _negatives(roles, periods)
    if not number:
        return ["negatives: none"]
    return [f"negatives: {{per_request: {number}, from: popular}} # sampled, since the log holds positives alone"]


def _write_truth(roles: Roles) -> list[str]:
    truth = {"true_scenario": "null", "true_probability": "null"}
    truth |= {name: name for name in truth if name in roles.table.columns}
    lines = [
        f"{key}: {value} # a generator's column; never a feature" for key, value in truth.items() if value != "null"
    ]
    return lines or ["true_scenario: null # a generator's column; never a feature"]
