"""When records reach the sink: a step at a time, and at once what may be the last word."""

from __future__ import annotations

import pytest

from traincheck.events import Call, Context, Process, Record, StepEnd
from traincheck.plan import Interruption
from traincheck.record import output as output_module
from traincheck.record.boundary import Boundary
from traincheck.record.output import Output


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self, process: Process) -> None:
        self.records: list[Record] = []
        self.closed = False

    def add(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


class Opened:
    """An output whose sink can be looked at."""

    def __init__(self) -> None:
        self.sinks: list[Kept] = []
        self.output = Output(self._open, lambda: "pytorch", Boundary())

    def _open(self, process: Process) -> Kept:
        self.sinks.append(Kept(process))
        return self.sinks[-1]

    @property
    def seqs(self) -> list[int]:
        return [record.seq for sink in self.sinks for record in sink.records]


def call(seq: int, end: int | None = None) -> Call:
    return Call(seq, seq if end is None else end, -1, "loss", "torch.nn.functional.mse_loss", "", Context())


@pytest.fixture
def opened() -> Opened:
    opened = Opened()
    opened.output.activity()
    return opened


def test_records_of_a_step_reach_the_sink_with_its_end(opened: Opened) -> None:
    opened.output.emit(call(0))
    opened.output.emit(call(1))
    assert opened.seqs == []

    opened.output.emit(StepEnd(2, 0))

    assert opened.seqs == [0, 1, 2]


def test_a_call_that_may_never_end_reaches_the_sink_at_once(opened: Opened) -> None:
    opened.output.emit(call(0))
    opened.output.emit(call(1, end=-1))

    assert opened.seqs == [0, 1]


def test_a_long_step_does_not_pile_up(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module, "MOST_WAITING", 10)
    for seq in range(25):
        opened.output.emit(call(seq))

    assert opened.seqs == list(range(20))


def test_the_rest_reaches_the_sink_before_it_is_closed(opened: Opened) -> None:
    opened.output.emit(call(0))
    opened.output.close()

    assert opened.seqs == [0]
    assert opened.sinks[0].closed


def test_a_sink_that_interrupts_the_program_at_its_end_is_closed(opened: Opened) -> None:
    sink = opened.sinks[0]

    def interrupts(record: Record) -> None:
        raise Interruption("violation")

    sink.add = interrupts  # type: ignore[method-assign]
    opened.output.emit(call(0))
    with pytest.raises(Interruption):
        opened.output.close()

    assert sink.closed


def test_nothing_is_opened_for_a_process_that_does_not_train() -> None:
    opened = Opened()
    opened.output.emit(call(0))
    opened.output.emit(StepEnd(1, 0))
    opened.output.close()

    assert not opened.sinks


def test_what_came_before_the_training_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module, "MOST_HELD", 2)
    opened = Opened()
    for seq in range(3):
        opened.output.emit(call(seq))
    opened.output.activity()

    assert opened.seqs == [0, 1]
