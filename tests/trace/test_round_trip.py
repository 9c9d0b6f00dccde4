"""What a process recorded is what a reader gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traincheck.events import Call, Context, Process, Record, Snapshot, StepEnd, Variable, VariableTable
from traincheck.trace import Part, Writer, open_trace
from traincheck.trace import writer as writer_module
from traincheck.values import identity
from traincheck.vocabulary import LR, VARIABLE_KINDS

StepOf = Callable[..., list[Record]]
WriteTrace = Callable[..., Path]

int64 = st.integers(-(2**63), 2**63 - 1)
names = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
look_alikes = st.sampled_from([True, 1, 1.0, 0, 0.0, False, None, "", float("nan"), float("inf")])
named_values = st.dictionaries(names, values | look_alikes, max_size=3)
contexts = st.builds(Context, stage=names, micro_step=int64, grad_enabled=st.booleans(), autocast=names)
calls = st.builds(
    Call,
    seq=int64,
    end=int64,
    parent=int64,
    role=names,
    api=names,
    subject=names,
    context=contexts,
    args=named_values,
    out=named_values,
    error=names,
    thread=int64,
    time_ns=int64,
    duration_ns=int64,
)
tables = st.builds(
    VariableTable,
    seq=int64,
    variables=st.lists(st.builds(Variable, shape=st.lists(int64, max_size=3).map(tuple)), max_size=3).map(tuple),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Content for each name: numbers for learning rates, fingerprints for the rest, the other of the two or nothing."""
    kind, listed = draw(st.sampled_from(VARIABLE_KINDS)), draw(st.lists(names, max_size=4))
    hashes = st.tuples(*[st.none() | st.integers(0, 2**64 - 1) for _ in listed])
    numbers = st.tuples(*[st.none() | st.floats() for _ in listed])
    nothing: st.SearchStrategy[tuple[None, ...]] = st.just(())
    return Snapshot(
        draw(int64),
        draw(int64),
        draw(st.sampled_from(["before", "after"])),
        kind,
        tuple(listed),
        draw(hashes | nothing if kind == LR else hashes),
        draw(numbers if kind == LR else numbers | nothing),
    )


records = st.lists(calls | snapshots() | tables | st.builds(StepEnd, int64, st.integers(0, 2**62), st.booleans()))
processes = st.builds(
    Process,
    rank=st.integers(0, 2**31),
    world_size=st.integers(1, 2**31),
    pid=st.integers(0, 2**31),
    framework=names,
    versions=st.dictionaries(names, names, max_size=3),
)


def exactly(value: object) -> object:
    """A stand-in that is equal only for records with the same values, type-strict and with NaN equal to NaN."""
    if is_dataclass(value):
        return (type(value), tuple(exactly(getattr(value, field.name)) for field in fields(value)))
    if isinstance(value, dict):
        return {name: exactly(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(exactly, value))
    return identity(value)  # type: ignore[arg-type]  # whatever is not a container is a recorded value


def write(directory: Path, process: Process, listed: list[Record]) -> Path:
    writer = Writer(directory, process)
    for record in listed:
        writer.add(record)
    writer.close()
    return directory / "parts" / f"{process.rank}-{process.pid}.arrow"


@settings(deadline=None)
@given(processes, records)
def test_any_records_come_back_exactly_and_in_order(process: Process, listed: list[Record]) -> None:
    with TemporaryDirectory() as directory:
        path = write(Path(directory), process, listed)
        if not listed:
            assert not path.exists()
            return
        part = Part(path)

        assert process == part.process
        assert list(map(exactly, listed)) == list(map(exactly, part.records()))


def test_the_stand_in_tells_look_alikes_apart() -> None:
    assert exactly({"a": True}) != exactly({"a": 1})
    assert exactly(Call(0, 0, 0, "", "", "", Context(), {"a": 1})) != exactly(
        Call(0, 0, 0, "", "", "", Context(), {"a": 1.0})
    )


def test_a_call_that_outlives_its_step_comes_open_and_then_closed(write_trace: WriteTrace) -> None:
    opened, closed = (Call(0, end, -1, "", "train.main", "", Context()) for end in (-1, 5))
    trace = open_trace(write_trace((Process(), [opened, StepEnd(1, 0), closed, StepEnd(6, 1)])))

    assert [opened, closed] == [record for record in trace.parts[0].records() if isinstance(record, Call)]


def test_a_huge_step_is_written_before_it_ends(
    tmp_path: Path, step_of: StepOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_ROWS", 10)
    writer = Writer(tmp_path, Process(pid=1))
    listed = step_of(0, calls=25)
    for record in listed[:-1]:
        writer.add(record)

    assert listed[:20] == list(Part(tmp_path / "parts" / "0-1.arrow").records())
    writer.close()
    assert listed[:-1] == list(Part(tmp_path / "parts" / "0-1.arrow").records())


def test_nothing_is_made_before_there_is_something_to_write(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "trace", Process())
    writer.close()
    writer.add(StepEnd(0, 0))

    assert not (tmp_path / "trace").exists()


def test_a_process_that_records_twice_keeps_both(tmp_path: Path, step_of: StepOf) -> None:
    write(tmp_path, Process(pid=1), step_of(0))
    write(tmp_path, Process(pid=1), step_of(1))

    assert step_of(0) == list(Part(tmp_path / "parts" / "0-1.arrow").records())
    assert step_of(1) == list(Part(tmp_path / "parts" / "0-1-2.arrow").records())


def test_a_step_takes_less_than_50_kilobytes(tmp_path: Path, step_of: StepOf) -> None:
    num_steps = 20
    path = write(tmp_path, Process(), [record for step in range(num_steps) for record in step_of(step, 60, 14)])

    assert path.stat().st_size / num_steps < 50_000


def test_a_part_opens_in_polars_and_pandas_as_documented(write_trace: WriteTrace, step_of: StepOf) -> None:
    polars, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    path = open_trace(write_trace((Process(), step_of(0)))).parts[0].path

    for frame in (polars.read_ipc_stream(path), pa.ipc.open_stream(path).read_pandas()):
        assert ["variables", "call", "call", "call", "state", "step"] == list(frame["kind"])
