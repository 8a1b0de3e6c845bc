"""Versions of what ran."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch


def versions() -> dict[str, Any]:
    """Versions of what runs, and the threads that this process has, for a run folder or an export."""
    packages: dict[str, Any] = {}
    for package in ("musenet", "torch", "numpy", "duckdb", "ibis-framework", "pyarrow"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = None
    return {
        "python": platform.python_version(),
        **packages,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
    }
