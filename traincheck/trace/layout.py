"""Where the files of a trace lie, and which format they have."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from traincheck.trace.errors import TraceVersionError

SCHEMA_VERSION: Final = 1
"""Raised by every change of the manifest or of the parts, together with ``FORMAT.md``."""

DISTRIBUTION: Final = "traincheck-suite"

MANIFEST_NAME: Final = "manifest.json"
PARTS_NAME: Final = "parts"
PART_SUFFIX: Final = ".arrow"


def part_paths(directory: Path) -> list[Path]:
    """The parts of a trace directory, in order of name, without those of processes that ended before they wrote."""
    paths = (directory / PARTS_NAME).glob(f"*{PART_SUFFIX}")
    return sorted(path for path in paths if path.stat().st_size > 0)


def check_version(path: Path, found: object) -> None:
    """Raises :class:`TraceVersionError` unless ``found`` is the schema version that this module reads and writes."""
    if type(found) is int and found == SCHEMA_VERSION:
        return
    if type(found) is int and found > SCHEMA_VERSION:
        raise TraceVersionError(
            f"{path} is trace format {found}; this traincheck reads format {SCHEMA_VERSION}. "
            f"Upgrade with: pip install -U {DISTRIBUTION}"
        )
    raise TraceVersionError(
        f"{path}: schema_version is {found!r}; expected {SCHEMA_VERSION}. Record the run again with traincheck-collect."
    )
