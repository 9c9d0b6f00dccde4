"""Reads the records of one process from its part, batch by batch, up to the last whole one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from traincheck.events import Process, Record
from traincheck.trace.errors import TraceError
from traincheck.trace.header import FOLLOWS_KEY, Header, parse_header
from traincheck.trace.layout import tail_of
from traincheck.trace.rows import RowReader
from traincheck.trace.schema import SCHEMA
from traincheck.trace.storage import TracePath

_CONTINUATION: Final = b"\xff\xff\xff\xff"
"""How each message of an Arrow stream begins."""

_ARROW_ERRORS: Final = (pa.ArrowException, OSError, ValueError, MemoryError, EOFError)


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
        for batch in self._batches():
            columns = [column.to_pylist() for column in batch.rows.columns]
            row = -1
            try:
                for row, record in enumerate(reader.records(columns)):  # noqa: B007 - the error names the row
                    yield record
            except ValueError as error:
                raise TraceError(f"{batch.path}, batch {batch.number}, row {row + 1}: {error}") from error

    def num_steps(self) -> int:
        """How many steps it holds, from the one column that tells. Raises :class:`TraceError`."""
        import pyarrow.compute as pc  # as much to import as the rest of Arrow

        return 1 + max((pc.max(batch.rows.column("step")).as_py() for batch in self._batches()), default=-1)

    def _batches(self) -> Iterator[_Batch]:
        # The tail comes first: the process that writes may move it to the part while that is read.
        follows, tail = _read_tail(tail_of(self.path))
        count = 0
        with _open(self.path) as file:
            for batch in _whole_batches(self.path, file):
                count += 1
                yield batch
        if follows == count:
            yield from tail


class _Batch(NamedTuple):
    """A batch, and where it lies."""

    path: TracePath
    number: int
    rows: Any


def _read_tail(path: TracePath) -> tuple[int, list[_Batch]]:
    """After how many batches of the part the ones of its tail come, and those. Most parts have none."""
    if not path.exists():
        return 0, []
    try:
        file = _open(path)
    except TraceError:
        if path.exists():
            raise
        return 0, []  # what was in it has just been moved to the part
    with file:
        try:
            schema = pa.ipc.read_schema(pa.ipc.MessageReader.open_stream(file).read_next_message())
            follows = int((schema.metadata or {})[FOLLOWS_KEY])
        except (*_ARROW_ERRORS, StopIteration, KeyError) as error:
            if _is_cut_off(file, 0):
                return 0, []
            raise TraceError(
                f"{path}, header: this is no tail of a part ({error}). Delete the file to read the rest of the trace"
            ) from error
        if not schema.equals(SCHEMA):
            raise TraceError(f"{path}, header: {_difference({field.name: field.type for field in schema})}")
        file.seek(0)
        return follows, list(_whole_batches(path, file))


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


def _whole_batches(path: TracePath, file: Any) -> Iterator[_Batch]:
    """The batches of the file, without one that its end cuts off."""
    # One reader for all batches prepares the schema once. Its threads would cost more than a batch takes.
    try:
        stream = pa.ipc.open_stream(file, options=pa.ipc.IpcReadOptions(use_threads=False))
    except _ARROW_ERRORS as error:
        raise TraceError(f"{path}, header: damaged: {error}") from error
    for number in itertools.count():
        start = file.tell()
        try:
            rows = stream.read_next_batch()
            # Full validation makes sure that no offset in a damaged file leads outside its buffer.
            rows.validate(full=True)
        except StopIteration:
            return
        except _ARROW_ERRORS as error:
            if _is_cut_off(file, start):
                return
            raise TraceError(f"{path}, batch {number}: damaged at byte {start}: {error}") from error
        yield _Batch(path, number, rows)


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
