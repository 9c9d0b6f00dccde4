"""A trace of any length: the steps of a recorded one, over and over, with new positions and new fingerprints."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from traincheck.events import Call, Record, Snapshot, StepEnd, VariableTable
from traincheck.trace import Writer, open_trace, write_manifest


def lengthen(source: Path, target: Path, *, events: int = 0, steps: int = 0) -> int:
    """Write to ``target`` whole steps of ``source``: at least so many, and so many calls and snapshots.

    Returns how many steps that took. The first step, which holds the start of the program, is not repeated. A process
    of its own does it: the peak memory of a command that is measured begins with that of the process which starts it.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_lengthen, source, target, events, steps).result()


def _lengthen(source: Path, target: Path, events: int, steps: int) -> int:
    trace = open_trace(source)
    recorded = list(_steps(trace.parts[0].records()))
    target.mkdir()
    write_manifest(target, trace.manifest)
    writer = Writer(target, trace.parts[0].process)
    written = number = seq = 0
    while written < events or number < steps:
        cycle, place = divmod(max(number - 1, 0), len(recorded) - 1)
        step = recorded[0] if number == 0 else recorded[1 + place]
        offset = seq - min(record.seq for record in step)
        for record in step:
            writer.add(_moved(record, offset, number, cycle))
        written += sum(isinstance(record, (Call, Snapshot)) for record in step)
        seq = offset + 1 + max(max(record.seq, record.end if isinstance(record, Call) else 0) for record in step)
        number += 1
    writer.close()
    return number


def _steps(records: Iterator[Record]) -> Iterator[list[Record]]:
    """The records of each complete step. Calls that outlive their step (the program's own ``main``) are left out."""
    step: list[Record] = []
    for record in records:
        step.append(record)
        if isinstance(record, StepEnd):
            yield [inside for inside in step if not isinstance(inside, Call) or 0 <= inside.end < record.seq]
            step = []


def _moved(record: Record, offset: int, step: int, cycle: int) -> Record:
    match record:
        case Call():
            parent = -1 if record.parent < 0 else max(-1, record.parent + offset)
            return replace(record, seq=record.seq + offset, end=record.end + offset, parent=parent)
        case Snapshot():
            hashes = tuple(None if content is None else content ^ cycle for content in record.hashes)
            return replace(record, seq=record.seq + offset, call=record.call + offset, hashes=hashes)
        case VariableTable():
            return replace(record, seq=record.seq + offset)
    return replace(record, seq=record.seq + offset, step=step)
