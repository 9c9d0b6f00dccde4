"""A trace: what one command recorded, one part for each of its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from traincheck.trace.alignment import aligned, runs
from traincheck.trace.errors import TraceError
from traincheck.trace.layout import MANIFEST_NAME, PARTS_NAME, part_sizes
from traincheck.trace.manifest import Manifest, read_manifest
from traincheck.trace.part import Part
from traincheck.trace.storage import RemotePath, TracePath, file_sizes, trace_path
from traincheck.window import Window


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace directory, opened: its headers are checked, its records are read when asked for."""

    path: TracePath
    manifest: Manifest
    parts: tuple[Part, ...]

    @property
    def runs(self) -> list[tuple[Part, ...]]:
        """The parts, grouped into those that ran side by side as the ranks of one run."""
        return runs(self.parts)

    def windows(self) -> Iterator[Window]:
        """All windows, run by run, the ranks of a run step by step. Raises :class:`TraceError` on damaged parts."""
        for run in self.runs:
            yield from aligned(run)


def open_trace(place: str | os.PathLike[str] | RemotePath) -> Trace:
    """Open the trace in the directory, or at the URL, ``place``.

    Raises :class:`TraceError` with one line that names file and place.
    """
    directory = trace_path(place)
    if not directory.exists():
        raise TraceError(f"{directory} does not exist. Record a trace with: {_collect(directory)}")
    if not directory.is_dir():
        raise TraceError(f"{directory} is a file; a trace is a directory with {MANIFEST_NAME} and {PARTS_NAME}/")
    if not (directory / MANIFEST_NAME).is_file():
        raise TraceError(f"{directory} is not a trace: it has no {MANIFEST_NAME}. {_traces_inside(directory)}")
    manifest = read_manifest(directory)
    paths = part_sizes(directory)
    if not paths:
        raise TraceError(
            f"{directory} is an empty trace: {PARTS_NAME}/ has no part. The command ended before any training was "
            f"recorded: {' '.join(manifest.command)}"
        )
    return Trace(directory, manifest, tuple(Part(path) for path in paths))


def _traces_inside(directory: TracePath) -> str:
    inside = [str(manifest.parent) for manifest in file_sizes(directory, f"*/{MANIFEST_NAME}")]
    if inside:
        return f"Traces in it: {', '.join(inside)}"
    return f"Record one with: {_collect(directory)}"


def _collect(directory: TracePath) -> str:
    return f"traincheck-collect -o {directory} -- python train.py"
