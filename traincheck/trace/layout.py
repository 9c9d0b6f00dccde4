"""Where the files of a trace lie, and which format they have."""

from __future__ import annotations

from typing import Final

from traincheck.trace.errors import DISTRIBUTION, TraceVersionError
from traincheck.trace.storage import TracePath, file_sizes

SCHEMA_VERSION: Final = 1
"""Raised by every change of the manifest or of the parts, together with ``FORMAT.md``."""

MANIFEST_NAME: Final = "manifest.json"
PARTS_NAME: Final = "parts"
PART_SUFFIX: Final = ".arrow"
TAIL_SUFFIX: Final = ".tail"
"""Beside a part that is being written, or whose process was killed: its last steps."""


def part_sizes(directory: TracePath) -> dict[TracePath, int]:
    """The parts of a trace with their sizes in bytes, without those of processes that ended before they wrote."""
    return {path: size for path, size in file_sizes(directory / PARTS_NAME, f"*{PART_SUFFIX}").items() if size > 0}


def tail_of(part: TracePath) -> TracePath:
    """Where the last steps of a part lie that are not in it yet."""
    return part.parent / f"{part.name.removesuffix(PART_SUFFIX)}{TAIL_SUFFIX}"


def check_version(path: object, found: object) -> None:
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
