"""What a rank was about to send, on disk before it sends it: a mismatch between ranks may end them all at once.

Each process keeps the collectives of its last two steps in a small file. When the run has failed, whoever launched it
compares what the ranks left behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from traincheck.check import Checker
from traincheck.events import Call, Process, Record, StepEnd
from traincheck.findings import CheckResult
from traincheck.invariant import Invariant
from traincheck.trace.rows import RowReader, to_row
from traincheck.vocabulary import COLLECTIVE
from traincheck.window import Window, windows

SUFFIX: Final = ".last"

_HEADER: Final = TypeAdapter(tuple[int, int, int])


class LastWords:
    """The file of one process. A file that cannot be written is given up."""

    def __init__(self, folder: Path, process: Process) -> None:
        self._header = json.dumps([process.rank, process.world_size, process.pid])
        self._path = folder / f"{process.rank}-{process.pid}{SUFFIX}"
        self._file: int | None = None
        self._latest: list[str] = []
        self._step = 0

    def begun(self, call: Call) -> None:
        """A collective is about to run."""
        line = json.dumps(to_row(call, self._step), separators=(",", ":"))
        self._latest.append(line)
        self._write([line] if self._file is not None else [self._header, line])

    def ended(self, step: StepEnd) -> None:
        """A step is complete: of what came before it, nothing is kept."""
        self._step = step.step + 1
        if not self._latest:
            return
        lines = [self._header, *self._latest, json.dumps(to_row(step, step.step))]
        self._latest = []
        if self._file is not None:
            os.ftruncate(self._file, 0)
            self._write(lines)

    def _write(self, lines: Sequence[str]) -> None:
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(self._file, "".join(f"{line}\n" for line in lines).encode())
        except OSError:
            self._file = None

    def close(self) -> None:
        """Nothing follows. What was written stays: another rank may have fewer words."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def judged(folder: Path, invariants: Iterable[Invariant]) -> CheckResult:
    """What the ranks' last words in ``folder`` say of their collectives."""
    checker = Checker(one for one in invariants if one.subject.get("call") == COLLECTIVE)
    by_step: dict[tuple[int, int], list[Window]] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        for window in _windows(path):
            by_step.setdefault((window.process.world_size, window.step), []).append(window)
    for _, group in sorted(by_step.items()):
        group.sort(key=lambda window: window.process.rank)
        if len({window.process.rank for window in group}) == len(group) > 1:
            group[0].peers = tuple(group)
            checker.add(group[0])
    return checker.result()


def _windows(path: Path) -> list[Window]:
    """The windows in one file, up to a line that the end of the process cut off."""
    reader = RowReader()
    records: list[Record] = []
    first = 0
    try:
        header, *lines = path.read_text("utf-8").splitlines()
        rank, world_size, pid = _HEADER.validate_json(header)
        for line in lines:
            row = tuple(json.loads(line))
            first = first if records else int(row[2])
            records.append(reader.record(row))
    except (OSError, ValueError, TypeError, IndexError, ValidationError):
        if not records:
            return []
    return _from_step(first, windows(Process(rank, world_size, pid), records))


def _from_step(first: int, found: Iterable[Window]) -> list[Window]:
    """A rest without a complete step before it counts from 0; this process was at another one."""
    kept = list(found)
    if len(kept) == 1 and kept[0].final:
        kept[0].step = first
    return kept
