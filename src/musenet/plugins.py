"""What other installed packages add to musenet: their entry points."""

from importlib.metadata import entry_points
from typing import Any

from musenet.errors import UserError, one_line


def installed(group: str, known: dict[str, Any]) -> dict[str, Any]:
    """What is known already, and what the packages installed beside musenet add, by name.

    Args:
        group: `musenet.models` or `musenet.sources`.
        known: what musenet brings.

    Raises:
        UserError: if a package's addition cannot be loaded, or has a name that is taken.
    """
    found = dict(known)
    for entry in entry_points(group=group):
        package = "an installed package" if entry.dist is None else f"the package {entry.dist.name}"
        if entry.name in found:
            raise UserError(f"{package} adds '{entry.name}' to {group}, where it is already: uninstall one of them")
        try:
            found[entry.name] = entry.load()
        except Exception as error:
            raise UserError(
                f"{package} adds '{entry.name}' to {group}, and it cannot be loaded ({one_line(error)}): fix it, or "
                "uninstall the package"
            ) from error
    return found
