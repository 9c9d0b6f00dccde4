"""A recording of a small program, kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from traincheck.events import Call, Process, Record, Snapshot, StepEnd
from traincheck.plan import Plan
from traincheck.record import Session, active
from traincheck.window import Window, windows


class Kept:
    """The sink, and what it was given."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.process = Process()
        self.closed = False

    def open(self, process: Process) -> Kept:
        self.process = process
        return self

    def add(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed = True

    @property
    def windows(self) -> list[Window]:
        return list(windows(self.process, self.records))

    def calls(self, role: str) -> list[Call]:
        found = [record for record in self.records if isinstance(record, Call) and record.role == role]
        return sorted(found, key=lambda call: call.seq)

    def snapshots(self) -> list[Snapshot]:
        return [record for record in self.records if isinstance(record, Snapshot)]

    def steps(self) -> list[StepEnd]:
        return [record for record in self.records if isinstance(record, StepEnd)]


Record_ = Callable[..., Kept]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record_]:
    """``record(program, plan=...)`` runs the program in a session and gives what was recorded."""

    def run(program: Callable[[], Any], plan: Plan | None = None, *, faults: bool = False, **options: Any) -> Kept:
        kept = Kept()
        session = Session(plan or Plan(), kept.open, **{"project": tmp_path, **options})
        session.start()
        try:
            program()
        finally:
            session.close()
        assert faults or session.faults == []
        return kept

    yield run
    left = active()
    if left is not None:
        left.close()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
