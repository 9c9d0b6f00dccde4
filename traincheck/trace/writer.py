"""Writes the records of one process: one Arrow batch per step, on disk before the next step begins."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from traincheck.events import Call, Process, Record, StepEnd
from traincheck.trace.header import Header
from traincheck.trace.layout import PART_SUFFIX, PARTS_NAME
from traincheck.trace.rows import to_row
from traincheck.trace.schema import SCHEMA
from traincheck.vocabulary import COLLECTIVE

MAX_ROWS: Final = 20_000
"""A step with more records than this is written in several batches, so that little of it waits in memory."""

COMPRESSION: Final = "lz4"
"""A tenth of the time of zstd on batches of this size, for a quarter more bytes."""


class Writer:
    """Appends to ``parts/<rank>-<pid>.arrow`` in ``directory``; nothing is made on disk before there is something.

    Each batch reaches the operating system in one write, so that a killed process leaves whole batches. In a forked
    child the writer does nothing: the part belongs to the parent.
    """

    def __init__(self, directory: Path, process: Process) -> None:
        self._directory = directory
        self._process = process
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._step = 0
        self._part: _PartFile | None = None
        self._closed = False

    def add(self, record: Record) -> None:
        """Take the next record; after ``close`` it is dropped. Raises ``OSError`` when it cannot be written."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            if self._closed:
                return
            self._records.append(record)
            if isinstance(record, StepEnd):
                self._flush(record.step)
                self._step = record.step + 1
            elif len(self._records) >= MAX_ROWS or _may_end_the_run(record):
                self._flush(self._step)

    def close(self) -> None:
        """Write what is left and end the part. May be called twice."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            if self._closed:
                return
            if self._records:
                self._flush(self._step)
            self._closed = True
            if self._part is not None:
                self._part.end()

    def _flush(self, step: int) -> None:
        records, self._records = self._records, []
        try:
            if self._part is None:
                self._part = _PartFile(self._directory, self._process)
            self._part.append([to_row(record, step) for record in records])
        except OSError:
            self._closed = True
            raise


def _may_end_the_run(record: Record) -> bool:
    """A collective that is about to run: where its ranks do not agree, it may be the last that they do."""
    return isinstance(record, Call) and record.end < 0 and record.role.startswith(COLLECTIVE)


class _PartFile:
    """One Arrow stream on disk that never holds half a batch, not even when the disk is full."""

    def __init__(self, directory: Path, process: Process) -> None:
        header = Header.of(process)
        self._file = _create(directory / PARTS_NAME, f"{process.rank}-{process.pid}")
        self._pending = io.BytesIO()
        # Arrow's own threads would compete with the training for cores, and do not survive a fork.
        options = pa.ipc.IpcWriteOptions(compression=COMPRESSION, use_threads=False)
        self._stream = pa.ipc.new_stream(self._pending, SCHEMA.with_metadata(header.metadata()), options=options)
        self._commit()

    def append(self, rows: list[tuple[Any, ...]]) -> None:
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._stream.write_batch(pa.record_batch(arrays, schema=SCHEMA))
        self._commit()

    def end(self) -> None:
        self._stream.close()
        self._commit()
        self._file.close()

    def _commit(self) -> None:
        whole = self._file.tell()
        rest = self._pending.getvalue()
        self._pending.seek(0)
        self._pending.truncate()
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(whole)
            self._file.close()
            raise


def _create(directory: Path, stem: str) -> io.FileIO:
    """A new file in ``directory``. A process that records twice gets ``<stem>-2`` and so on."""
    directory.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        try:
            return io.FileIO(directory / f"{name}{PART_SUFFIX}", "x")
        except FileExistsError:
            number += 1
