"""What other installed packages add to musenet: their entry points."""

import inspect
import traceback
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, get_args

from musenet.errors import UserError, one_line
from musenet.options import Options

GROUPS = ("musenet.models", "musenet.sources")


def installed(group: str, known: dict[str, Any], wrong: Callable[[str, Any], str | None]) -> dict[str, Any]:
    """What is known already, and what the packages installed beside musenet add, by name.

    Args:
        group: one of `GROUPS`.
        known: what musenet brings.
        wrong: what of an addition of this name is not as docs/extending.md says; None if all is.

    Raises:
        UserError: if a package's addition cannot be loaded, is no such thing, or has a name that is taken.
    """
    found = dict(known)
    for entry in entry_points(group=group):
        adds = f"{_package(entry)} adds '{entry.name}' to {group}"
        if entry.name in found:
            raise UserError(f"{adds}, where it is already: uninstall one of them")
        try:
            found[entry.name] = entry.load()
        except Exception as error:
            raise UserError(
                f"{adds}, and it cannot be loaded ({one_line(error)}): fix it, or uninstall the package"
            ) from error
        mistake = wrong(entry.name, found[entry.name])
        if mistake is not None:
            raise UserError(f"{adds}, but {mistake}: see docs/extending.md")
    return found


def wrong_options(name: str, added: Any, base: type[Options], key: str) -> str | None:
    """What is wrong with the `options_type` of what is added under this name; None if nothing is.

    Args:
        name: of the entry point.
        added: what it names.
        base: what its options have to be.
        key: by whose value options are told apart.
    """
    options = getattr(added, "options_type", None)
    if not (isinstance(options, type) and issubclass(options, base)):
        return f"its options_type is no subclass of {base.__name__}"
    if get_args(options.model_fields[key].annotation) != (name,):
        return f'{options.__name__} does not say {key}: Literal["{name}"]'
    return None


def wrong_method(added: Any, **arguments: str) -> str | None:
    """Which method is missing or does not take its arguments, such as `forward="batch, progress"`; None if none is."""
    for name, needed in arguments.items():
        try:
            inspect.signature(getattr(added, name)).bind("self", *needed.split(", " if needed else None))
        except (AttributeError, TypeError):
            return f"it has no {name}({needed})"
    return None


def place_of(error: Exception) -> str | None:
    """The last line of an installed package's additions that an error went through; None if there is none."""
    packages = {entry.module.split(".")[0]: entry for group in GROUPS for entry in entry_points(group=group)}
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if module in packages:
            found = f"{_package(packages[module])}, {Path(frame.f_code.co_filename).name} line {line}"
    return found


def _package(entry: EntryPoint) -> str:
    return "an installed package" if entry.dist is None else f"the package {entry.dist.name}"
