"""Where records go: held back until the process is known to train, then handed to its sink a step at a time.

In the middle of a step whatever we run finds its code and data gone from the processor's caches; at its end, all
records pass through the sink while it is warm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from traincheck.events import Call, Record, StepEnd
from traincheck.plan import OpenSink, Sink
from traincheck.record.boundary import Boundary
from traincheck.record.process import describe_process

MOST_HELD: Final = 100_000
"""Records that a process may produce before its first training activity; a process with more does not train."""

MOST_WAITING: Final = 1024
"""Records of one step that wait for its end."""


class Output:
    """The sink of this process, opened when training activity happens in it."""

    def __init__(self, open_sink: OpenSink, framework: Callable[[], str], boundary: Boundary) -> None:
        self._open_sink = open_sink
        self._framework = framework
        self._boundary = boundary
        self._lock = threading.RLock()
        self._sink: Sink | None = None
        self._waiting: list[Record] = []
        self._dropped = 0

    def emit(self, record: Record) -> None:
        """Take the next record."""
        with self._lock:
            waiting = self._waiting
            if self._sink is None and len(waiting) >= MOST_HELD:
                self._dropped += 1
                return
            waiting.append(record)
            # A call that is only announced may be the last that is ever heard of this process.
            announced = type(record) is Call and record.end < 0
            if announced or type(record) is StepEnd or len(waiting) >= MOST_WAITING:
                self._hand_on()

    def activity(self) -> None:
        """Training happens in this process."""
        if self._sink is None:
            with self._lock:
                self._boundary.run("sink", self._open)

    def close(self) -> None:
        """Nothing follows."""
        with self._lock:
            try:
                self._hand_on()
            finally:
                sink, self._sink = self._sink, None
                self._waiting = []
                if sink is not None:
                    self._boundary.run("sink.close", sink.close)

    def _open(self) -> None:
        self._sink = self._open_sink(describe_process(self._framework()))
        if self._dropped:
            self._boundary.note(f"{self._dropped} records before the first training step were left out")
        self._hand_on()

    def _hand_on(self) -> None:
        if self._sink is not None:
            waiting, self._waiting = self._waiting, []
            self._boundary.run("sink", self._add, self._sink, waiting)

    def _add(self, sink: Sink, records: list[Record]) -> None:
        for record in records:
            sink.add(record)
