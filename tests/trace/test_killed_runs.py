"""A run that was killed, or whose file was cut, is readable up to its last complete step."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from traincheck.events import Process, Record, StepEnd
from traincheck.trace import Part, TraceError, Writer, open_trace
from traincheck.trace import writer as writer_module

StepOf = Callable[..., list[Record]]
WriteTrace = Callable[..., Path]


def complete_steps(part: Part) -> list[int]:
    return [record.step for record in part.records() if isinstance(record, StepEnd)]


def records_or_refusal(path: Path) -> list[Record] | str:
    try:
        return list(Part(path).records())
    except TraceError as error:
        return str(error)


def test_a_part_cut_at_any_byte_yields_its_complete_steps(
    write_trace: WriteTrace, step_of: StepOf, step_by_step: None
) -> None:
    first, second = step_of(0), step_of(1)
    path = open_trace(write_trace((Process(), first + second))).parts[0].path
    outcomes = []
    for size in reversed(range(path.stat().st_size)):
        os.truncate(path, size)
        outcomes.append(records_or_refusal(path))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]
    readings = outcomes[: len(outcomes) - len(refusals)]

    assert all(f"{path} has no whole Arrow header" in refusal for refusal in refusals)
    assert [first + second, first, []] == [outcome for outcome, _ in itertools.groupby(readings)]


def written(directory: Path, step_of: StepOf, steps: int) -> tuple[Writer, Path, Path]:
    """A writer after so many steps, with its part and the tail of that."""
    writer = Writer(directory, Process(pid=1))
    for step in range(steps):
        for record in step_of(step):
            writer.add(record)
    return writer, directory / "parts" / "0-1.arrow", directory / "parts" / "0-1.tail"


def killed(directory: Path, step_of: StepOf, steps: int) -> tuple[Path, Path]:
    """The part and the tail that a process leaves that is killed after so many steps."""
    writer, part, tail = written(directory, step_of, steps)
    assert writer._part is not None
    writer._part.abandon()
    return part, tail


def test_a_tail_cut_at_any_byte_yields_its_complete_steps(tmp_path: Path, step_of: StepOf) -> None:
    path, tail = killed(tmp_path, step_of, 3)
    outcomes = []
    for size in reversed(range(tail.stat().st_size + 1)):
        os.truncate(tail, size)
        outcomes.append(complete_steps(Part(path)))

    assert [[0, 1, 2], [0, 1], [0]] == [outcome for outcome, _ in itertools.groupby(outcomes)]


def test_short_steps_share_batches_and_leave_no_tail(
    tmp_path: Path, step_of: StepOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "ROWS_A_BATCH", 15)
    writer, path, tail = written(tmp_path, step_of, 9)
    assert tail.exists()
    writer.close()

    assert [path] == list(path.parent.iterdir())
    with pa.ipc.open_stream(path) as stream:
        assert [6, 18, 18, 12] == [batch.num_rows for batch in stream]
    assert list(range(9)) == complete_steps(Part(path))
    assert 9 == Part(path).num_steps()


def test_steps_that_were_moved_to_the_part_are_not_read_twice(
    tmp_path: Path, step_of: StepOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "ROWS_A_BATCH", 15)
    writer, path, tail = written(tmp_path, step_of, 3)
    content = tail.read_bytes()
    for record in step_of(3):
        writer.add(record)
    writer.close()
    assert not tail.exists()
    tail.write_bytes(content)  # as if the process had been killed before it deleted it

    assert [0, 1, 2, 3] == complete_steps(Part(path))


def test_a_tail_is_left_out_where_steps_before_it_are_missing(
    tmp_path: Path, step_of: StepOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "ROWS_A_BATCH", 15)
    path, tail = killed(tmp_path, step_of, 5)
    os.truncate(path, path.stat().st_size - 1)

    assert tail.exists()
    assert [0] == complete_steps(Part(path))


def test_a_damaged_tail_is_named(tmp_path: Path, step_of: StepOf) -> None:
    path, tail = killed(tmp_path, step_of, 3)
    content = tail.read_bytes()
    for damaged in (b"hello, I am not Arrow", content[:8] + b"x" * 64 + content[72:], path.read_bytes()):
        tail.write_bytes(damaged)

        refusal = records_or_refusal(path)
        assert isinstance(refusal, str)
        assert f"{tail}, header" in refusal
    second = content.rindex(b"\xff\xff\xff\xff")
    tail.write_bytes(content[:second] + b"x" * 64 + content[second + 64 :])
    assert f"{tail}, batch 1: damaged" in str(records_or_refusal(path))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_killed_process_leaves_its_complete_steps(tmp_path: Path) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from traincheck.events import Call, Context, Process, StepEnd
        from traincheck.trace import Manifest, Writer, write_manifest

        write_manifest(Path(sys.argv[1]), Manifest.for_command(["python"]))
        writer = Writer(Path(sys.argv[1]), Process(pid=os.getpid()))
        for step in range(5):
            writer.add(Call(2 * step, 2 * step, -1, "forward", "f", "Net", Context()))
            writer.add(StepEnd(2 * step + 1, step))
        writer.add(Call(10, 10, -1, "forward", "f", "Net", Context()))
        os.kill(os.getpid(), 9)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=False)

    assert -signal.SIGKILL == killed.returncode
    windows = list(open_trace(tmp_path).windows())
    assert [0, 1, 2, 3, 4] == [window.step for window in windows]
    assert not any(window.final for window in windows)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_write_into_its_parents_part(tmp_path: Path, step_of: StepOf) -> None:
    writer = Writer(tmp_path, Process(pid=1))
    for record in step_of(0):
        writer.add(record)
    child = os.fork()
    if child == 0:
        for record in step_of(7):
            writer.add(record)
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    for record in step_of(1):
        writer.add(record)
    writer.close()

    assert [0, 1] == complete_steps(Part(tmp_path / "parts" / "0-1.arrow"))


class _FullDisk:
    """A file on a disk that fills up half-way through a write."""

    def __init__(self, file: object) -> None:
        self._file = file
        self._num_writes = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        self._num_writes += 1
        if self._num_writes == 1:
            return int(self._file.write(data[: len(data) // 2]))  # type: ignore[attr-defined]  # a FileIO
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_nothing_already_written(
    tmp_path: Path, step_of: StepOf, step_by_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path, Process(pid=1))
    for record in step_of(0):
        writer.add(record)
    stream = writer._part._stream  # type: ignore[union-attr]
    monkeypatch.setattr(stream, "_file", _FullDisk(stream._file))
    *records, end = step_of(1)
    for record in records:
        writer.add(record)
    with pytest.raises(OSError, match="No space left"):
        writer.add(end)
    writer.add(StepEnd(99, 2))
    writer.close()

    assert step_of(0) == list(Part(tmp_path / "parts" / "0-1.arrow").records())


@pytest.mark.parametrize("place", ["part", "tail"])
def test_a_full_disk_leaves_the_steps_in_the_tail(
    tmp_path: Path, step_of: StepOf, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    writer, path, _ = written(tmp_path, step_of, 3)
    part: Any = writer._part
    stream = part._stream if place == "part" else part._tail
    monkeypatch.setattr(stream, "_file", _FullDisk(stream._file))
    if place == "part":
        monkeypatch.setattr(writer_module, "ROWS_A_BATCH", 1)
    *records, end = step_of(3)
    for record in records:
        writer.add(record)
    with pytest.raises(OSError, match="No space left"):
        writer.add(end)
    writer.close()

    assert [0, 1, 2] == complete_steps(Part(path))


@pytest.mark.parametrize("rows", [1, 15, 512])
def test_a_part_can_be_read_while_it_is_written(
    tmp_path: Path, step_of: StepOf, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(writer_module, "ROWS_A_BATCH", rows)
    writer = Writer(tmp_path, Process(pid=1))
    for step in range(8):
        for record in step_of(step):
            writer.add(record)

        assert list(range(step + 1)) == complete_steps(Part(tmp_path / "parts" / "0-1.arrow"))
    writer.close()
    assert list(range(8)) == complete_steps(Part(tmp_path / "parts" / "0-1.arrow"))
