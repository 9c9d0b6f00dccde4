"""Writes the records of one process: each step is on disk before the next one begins."""

from __future__ import annotations

import io
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from traincheck.events import Call, Process, Record, StepEnd
from traincheck.trace.header import FOLLOWS_KEY, Header
from traincheck.trace.layout import PART_SUFFIX, PARTS_NAME, tail_of
from traincheck.trace.rows import to_row
from traincheck.trace.schema import SCHEMA
from traincheck.vocabulary import COLLECTIVE

MAX_ROWS: Final = 20_000
"""A step with more records than this is written in several batches, so that little of it waits in memory."""

ROWS_A_BATCH: Final = 512
"""Short steps share a batch of so many records."""

COMPRESSION: Final = "lz4"
"""A sixth of the time of zstd on batches of this size, for half more bytes."""


class Writer:
    """Appends to ``parts/<rank>-<pid>.arrow`` in ``directory``; nothing is made on disk before there is something.

    Each step reaches the operating system in one write, so that a killed process leaves whole steps. In a forked
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
            if self._part is not None:
                self._part.abandon()
            raise


def _may_end_the_run(record: Record) -> bool:
    """A collective that is about to run: where its ranks do not agree, it may be the last that they do."""
    return isinstance(record, Call) and record.end < 0 and record.role.startswith(COLLECTIVE)


class _PartFile:
    """A part on disk: whole batches of many steps, and the steps since then one by one in its tail.

    A batch for each short step would take three times the space, and reading a trace two thirds longer.
    """

    def __init__(self, directory: Path, process: Process) -> None:
        path, file = _create(directory / PARTS_NAME, f"{process.rank}-{process.pid}")
        self._metadata = Header.of(process).metadata()
        self._stream = _Stream(file, self._metadata, COMPRESSION)
        self._num_batches = 0
        self._tail_path = Path(str(tail_of(path)))
        self._tail: _Stream | None = None
        self._kept: list[Any] = []
        """The batches in the tail."""

    def append(self, rows: list[tuple[Any, ...]]) -> None:
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._kept.append(pa.record_batch(arrays, schema=SCHEMA))
        # The first batch brings the header with it: without one the file would not be a part yet.
        if not self._num_batches or sum(batch.num_rows for batch in self._kept) >= ROWS_A_BATCH:
            self._settle()
            return
        if self._tail is None:
            # Deleted and made anew, never written over: whoever is reading it goes on reading what it was.
            follows = {FOLLOWS_KEY: str(self._num_batches).encode()}
            self._tail = _Stream(io.FileIO(self._tail_path, "w"), self._metadata | follows, None)
        self._tail.append(self._kept[-1])

    def _settle(self) -> None:
        """Move what is in the tail to the part. A process that is killed in between leaves it in both."""
        self._stream.append(pa.concat_batches(self._kept))
        self._num_batches += 1
        self._kept = []
        if self._tail is not None:
            self._tail.close()
            self._tail = None
            with suppress(OSError):  # somebody has it open, or has deleted it: one that stays is left out by readers
                self._tail_path.unlink()

    def end(self) -> None:
        if self._kept:
            self._settle()
        self._stream.end()

    def abandon(self) -> None:
        """Close the files as they are."""
        self._stream.close()
        if self._tail is not None:
            self._tail.close()


class _Stream:
    """One Arrow stream on disk that never holds half a batch, not even when the disk is full."""

    def __init__(self, file: io.FileIO, metadata: dict[bytes, bytes], compression: str | None) -> None:
        self._file = file
        self._pending = io.BytesIO()
        # Arrow's own threads would compete with the training for cores, and do not survive a fork.
        options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
        self._stream = pa.ipc.new_stream(self._pending, SCHEMA.with_metadata(metadata), options=options)

    def append(self, batch: Any) -> None:
        self._stream.write_batch(batch)
        self._commit()

    def end(self) -> None:
        self._stream.close()
        self._commit()
        self.close()

    def close(self) -> None:
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
            raise


def _create(directory: Path, stem: str) -> tuple[Path, io.FileIO]:
    """A new file in ``directory``, opened. A process that records twice gets ``<stem>-2`` and so on."""
    directory.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        path = directory / f"{name}{PART_SUFFIX}"
        try:
            return path, io.FileIO(path, "x")
        except FileExistsError:
            number += 1
