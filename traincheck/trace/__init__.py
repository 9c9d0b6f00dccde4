"""Traces on disk: written step by step by each process, read window by window. The format is in ``FORMAT.md``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from traincheck.trace.errors import TraceError, TraceVersionError
from traincheck.trace.layout import SCHEMA_VERSION

if TYPE_CHECKING:
    from traincheck.trace.manifest import Manifest, write_manifest
    from traincheck.trace.part import Part
    from traincheck.trace.trace import Trace, open_trace
    from traincheck.trace.writer import Writer

__all__ = [
    "SCHEMA_VERSION",
    "Manifest",
    "Part",
    "Trace",
    "TraceError",
    "TraceVersionError",
    "Writer",
    "open_trace",
    "write_manifest",
]

_HOME: Final = {
    "Manifest": "manifest",
    "Part": "part",
    "Trace": "trace",
    "Writer": "writer",
    "open_trace": "trace",
    "write_manifest": "manifest",
}


def __getattr__(name: str) -> object:
    """Imports pyarrow and pydantic only with the first name that needs them: ``--help`` needs none."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
