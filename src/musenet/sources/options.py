"""What the `data` parts of all sources share: relative paths start from the configuration's folder."""

from pathlib import Path
from typing import Self

from pydantic import Field

from musenet.options import Options


class SourceOptions(Options):
    """The `data` part of a configuration."""

    source: str
    seed: int = Field(1, ge=0, description="random seed of preparation: sampled negatives, a share of the log")

    def starting_from(self, base: Path) -> Self:
        """The same options, relative paths starting from `base`; a source without paths has none to change."""
        return self


class FolderOptions(SourceOptions):
    """A log whose files are known by name and lie in one folder."""

    folder: str = Field(description="folder of the files")

    def starting_from(self, base: Path) -> Self:
        """The same options with the folder's whole path."""
        return self.model_copy(update={"folder": str(base / Path(self.folder).expanduser())})
