"""Gathers the evidence of traces: what there is to do, shared out so that several processes finish together."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from traincheck.evidence import Gatherer, Share, Source, Summary
from traincheck.trace import Trace, open_trace
from traincheck.trace.layout import part_sizes

WORTH_A_PROCESS_BYTES: Final = 3_000_000
"""A process takes about half as long to start as to learn from this."""

ABOUT_EVEN: Final = 0.2
"""So much more than an even share of the work may a process get: to share a trace is to read it twice."""


@dataclass(frozen=True, slots=True)
class Task:
    """A share of the hypotheses on one trace. It can be done anywhere that the trace can be read."""

    place: str
    """Folder or URL of the trace."""
    share: Share

    def summary(self) -> Summary:
        """The evidence on these hypotheses, in one pass. Raises :class:`traincheck.errors.UserError`."""
        trace = open_trace(self.place)
        gatherer = Gatherer(source_of(trace), self.share)
        for window in trace.windows():
            gatherer.add(window)
        return gatherer.summary()


class Engine(Protocol):
    """Who does the tasks."""

    @property
    def workers(self) -> int:
        """How many tasks are done at a time."""

    def summaries(self, tasks: Sequence[Task]) -> Iterable[Summary]:
        """What comes of each task, in their order."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Processes of this machine. A single one is this process itself."""

    workers: int = 1

    def summaries(self, tasks: Sequence[Task]) -> Iterator[Summary]:
        """What comes of each task, in their order."""
        if self.workers == 1 or len(tasks) < 2:
            yield from map(Task.summary, tasks)
            return
        # A fifth of the start of a command that needs neither.
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        # Where none has to wait for its turn, the first one is done here while the other processes start.
        own = tasks[:1] if len(tasks) <= self.workers else ()
        with ProcessPoolExecutor(min(self.workers, len(tasks)) - len(own), mp_context=get_context("spawn")) as pool:
            others = pool.map(Task.summary, tasks[len(own) :])
            yield from map(Task.summary, own)
            yield from others


@dataclass(frozen=True, slots=True)
class Reading:
    """A trace that is to be read: its headers are known."""

    place: str
    source: Source
    size_bytes: int


def survey(place: str) -> Reading:
    """Open a trace and look at its headers. Raises :class:`traincheck.errors.UserError` when it is none."""
    trace = open_trace(place)
    return Reading(place, source_of(trace), sum(part_sizes(trace.path).values()))


def gather(
    readings: Sequence[Reading], engine: Engine, progress: Callable[[int, int], None] | None = None
) -> Iterator[Summary]:
    """The evidence of each trace, in order. ``progress(done, total)`` is called after each task."""
    shares = [_num_shares(reading, readings, engine.workers) for reading in readings]
    tasks = [
        Task(reading.place, Share(number, of))
        for reading, of in zip(readings, shares, strict=True)
        for number in range(of)
    ]
    results = iter(engine.summaries(tasks))
    done = 0
    for of in shares:
        total = Summary()
        for _ in range(of):
            total.merge(next(results))
            done += 1
            if progress is not None:
                progress(done, len(tasks))
        yield total


def _num_shares(reading: Reading, readings: Sequence[Reading], workers: int) -> int:
    """So many that no trace keeps one worker busy while the others have nothing left."""
    total = sum(other.size_bytes for other in readings)
    useful = min(workers, max(1, total // WORTH_A_PROCESS_BYTES))
    return max(1, math.ceil(reading.size_bytes * useful / total - ABOUT_EVEN)) if total else 1


def source_of(trace: Trace) -> Source:
    """What the headers of a trace tell of its run."""
    versions = tuple(sorted(trace.manifest.versions.items()))
    return Source(trace.path.name, program_of(trace), versions, identity_of(trace))


def program_of(trace: Trace) -> str:
    """The command that made the trace up to its options: ``python train.py``."""
    words: list[str] = []
    for word in trace.manifest.command:
        if word.startswith("-") and word != "-m":
            break
        words.append(Path(word).name)
    return " ".join(words)[:200]


def identity_of(trace: Trace) -> str:
    """Sixteen hexadecimal digits that a copy of the trace has too, and no other run."""
    headers = sorted((part.header.rank, part.header.pid, part.header.started_ns) for part in trace.parts)
    facts = [trace.manifest.started_at.isoformat(), trace.manifest.command, headers]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
