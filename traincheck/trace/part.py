"""Reads the records of one process from its part, batch by batch, up to the last whole one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from traincheck.events import Process, Record
from traincheck.trace.errors import TraceError
from traincheck.trace.header import Header, parse_header
from traincheck.trace.rows import RowReader
from traincheck.trace.schema import SCHEMA
from traincheck.trace.storage import TracePath

_CONTINUATION: Final = b"\xff\xff\xff\xff"
"""How each message of an Arrow stream begins."""

_ARROW_ERRORS: Final = (pa.ArrowException, OSError, ValueError, MemoryError, EOFError)

ROWS_AT_ONCE: Final = 256
"""Batches are made into Python values together up to so many rows: one by one, that costs as much as reading them."""


class Part:
    """What one process recorded. Reading it needs the memory of a few batches; it may still be being written."""

    def __init__(self, path: TracePath) -> None:
        """Reads the header. Raises :class:`TraceError` when the file is not a part, or not a whole header."""
        self.path = path
        self.header: Header = _read_header(path)

    @property
    def process(self) -> Process:
        """Facts about the process that wrote the part."""
        return self.header.process

    def records(self) -> Iterator[Record]:
        """The records in the order in which they were written; a batch cut off by the end of the process is left out.

        A call that outlives a step comes twice, first open and later closed. Raises :class:`TraceError` with file,
        batch and row.
        """
        reader = RowReader()
        with _open(self.path) as file:
            for first, batches in _bundles(_batches(self.path, file)):
                columns = [column.to_pylist() for column in pa.concat_batches(batches).columns]
                row = -1
                try:
                    for row, record in enumerate(reader.records(columns)):  # noqa: B007 - the error names the row
                        yield record
                except ValueError as error:
                    raise TraceError(f"{self.path}, {_place(first, batches, row + 1)}: {error}") from error


def _open(path: TracePath) -> Any:
    try:
        return pa.OSFile(str(path), "rb") if isinstance(path, Path) else pa.PythonFile(path.open(), "r")
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error}") from error


def _read_header(path: TracePath) -> Header:
    with _open(path) as file:
        try:
            schema = pa.ipc.read_schema(pa.ipc.MessageReader.open_stream(file).read_next_message())
            columns = {field.name: field.type for field in schema}
        except (*_ARROW_ERRORS, StopIteration) as error:
            raise TraceError(
                f"{path} has no whole Arrow header ({file.size()} bytes): the process ended before it recorded "
                f"anything, or this is not a part. Delete the file to read the rest of the trace"
            ) from error
    header = parse_header(path, schema.metadata)
    if not schema.equals(SCHEMA):
        raise TraceError(f"{path}, header: {_difference(columns)}")
    return header


def _difference(columns: Mapping[str, Any]) -> str:
    for field in SCHEMA:
        if field.name not in columns:
            return f"column {field.name!r} is missing"
        if columns[field.name] != field.type:
            return f"column {field.name!r} is {columns[field.name]}; expected {field.type}"
    return f"columns are {', '.join(columns)}; expected {', '.join(SCHEMA.names)}, once each and nullable"


def _batches(path: TracePath, file: Any) -> Iterator[Any]:
    """The batches of the part, without one that the end of the file cuts off."""
    # One reader for all batches prepares the schema once. Its threads would cost more than a batch of one step takes.
    stream = pa.ipc.open_stream(file, options=pa.ipc.IpcReadOptions(use_threads=False))
    number = 0
    while True:
        start = file.tell()
        try:
            batch = stream.read_next_batch()
            # Full validation makes sure that no offset in a damaged file leads outside its buffer.
            batch.validate(full=True)
        except StopIteration:
            return
        except _ARROW_ERRORS as error:
            if _is_cut_off(file, start):
                return
            raise TraceError(f"{path}, batch {number}: damaged at byte {start}: {error}") from error
        yield batch
        number += 1


def _is_cut_off(file: Any, start: int) -> bool:
    """Whether the unreadable message at ``start`` is one that merely lacks its end."""
    file.seek(start)
    try:
        pa.ipc.read_message(file)
    except _ARROW_ERRORS:
        if file.tell() < file.size():
            return False
    else:
        return False
    file.seek(start)
    beginning = file.read(len(_CONTINUATION))
    return bool(beginning == _CONTINUATION[: len(beginning)])


def _bundles(batches: Iterator[Any]) -> Iterator[tuple[int, list[Any]]]:
    """The batches, some at a time, with the number of the first."""
    first, bundle = 0, list[Any]()
    for batch in batches:
        bundle.append(batch)
        if sum(batch.num_rows for batch in bundle) >= ROWS_AT_ONCE:
            yield first, bundle
            first, bundle = first + len(bundle), []
    if bundle:
        yield first, bundle


def _place(number: int, batches: Sequence[Any], row: int) -> str:
    """The batch and row, as counted in the file, of a row of a bundle."""
    for batch in batches:
        if row < batch.num_rows:
            break
        number, row = number + 1, row - batch.num_rows
    return f"batch {number}, row {row}"
