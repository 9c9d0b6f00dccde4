"""Reads the records of one process from its part, batch by batch, up to the last whole one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from traincheck.events import Process, Record
from traincheck.trace.errors import TraceError
from traincheck.trace.header import Header, parse_header
from traincheck.trace.rows import SCHEMA, RowReader

_CONTINUATION: Final = b"\xff\xff\xff\xff"
"""How each message of an Arrow stream begins."""

_ARROW_ERRORS: Final = (pa.ArrowException, OSError, ValueError, MemoryError, EOFError)


class Part:
    """What one process recorded. Reading it needs the memory of one batch; it may still be being written."""

    def __init__(self, path: Path) -> None:
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
            messages = pa.ipc.MessageReader.open_stream(file)
            messages.read_next_message()
            for number, message in enumerate(_whole_messages(self.path, file, messages)):
                columns = _columns(f"{self.path}, batch {number}", message)
                row = -1
                try:
                    for row, cells in enumerate(zip(*columns, strict=True)):  # noqa: B007 - the error names the row
                        yield reader.record(cells)
                except ValueError as error:
                    raise TraceError(f"{self.path}, batch {number}, row {row}: {error}") from error


def _open(path: Path) -> Any:
    try:
        return pa.OSFile(str(path), "rb")
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error}") from error


def _read_header(path: Path) -> Header:
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


def _whole_messages(path: Path, file: Any, messages: Any) -> Iterator[Any]:
    """The messages after the header, without one that the end of the file cuts off."""
    number = 0
    while True:
        start = file.tell()
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        except _ARROW_ERRORS as error:
            if _is_cut_off(file, start):
                return
            raise TraceError(f"{path}, batch {number}: damaged at byte {start}: {error}") from error
        yield message
        number += 1


def _is_cut_off(file: Any, start: int) -> bool:
    """Whether the unreadable message at ``start`` is one that merely lacks its end."""
    if file.tell() < file.size():
        return False
    file.seek(start)
    beginning = file.read(len(_CONTINUATION))
    return bool(beginning == _CONTINUATION[: len(beginning)])


def _columns(place: str, message: Any) -> list[list[Any]]:
    try:
        batch = pa.ipc.read_record_batch(message, SCHEMA)
        # Full validation makes sure that no offset in a damaged file leads outside its buffer.
        batch.validate(full=True)
        return [column.to_pylist() for column in batch.columns]
    except _ARROW_ERRORS as error:
        raise TraceError(f"{place}: damaged: {error}") from error
