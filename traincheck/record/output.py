"""Where records go: held back until the process is known to train, then handed to its sink."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from traincheck.events import Record
from traincheck.plan import OpenSink, Sink
from traincheck.record.boundary import Boundary
from traincheck.record.process import describe_process

MOST_HELD: Final = 100_000
"""Records that a process may produce before its first training activity; a process with more does not train."""


class Output:
    """The sink of this process, opened when training activity happens in it."""

    def __init__(self, open_sink: OpenSink, framework: Callable[[], str], boundary: Boundary) -> None:
        self._open_sink = open_sink
        self._framework = framework
        self._boundary = boundary
        self._lock = threading.RLock()
        self._sink: Sink | None = None
        self._held: list[Record] = []
        self._dropped = 0

    def emit(self, record: Record) -> None:
        """Take the next record."""
        with self._lock:
            if self._sink is not None:
                self._boundary.run("sink", self._sink.add, record)
            elif len(self._held) < MOST_HELD:
                self._held.append(record)
            else:
                self._dropped += 1

    def activity(self) -> None:
        """Training happens in this process."""
        if self._sink is None:
            with self._lock:
                self._boundary.run("sink", self._open)

    def close(self) -> None:
        """Nothing follows."""
        with self._lock:
            sink, self._sink = self._sink, None
            self._held = []
            if sink is not None:
                self._boundary.run("sink.close", sink.close)

    def _open(self) -> None:
        self._sink = self._open_sink(describe_process(self._framework()))
        if self._dropped:
            self._boundary.note(f"{self._dropped} records before the first training step were left out")
        held, self._held = self._held, []
        for record in held:
            self._sink.add(record)
