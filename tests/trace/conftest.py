"""Synthetic records and traces, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from traincheck.events import Call, Context, Process, Record, Snapshot, StepEnd, Variable, VariableTable
from traincheck.trace import Manifest, Writer, write_manifest, writer
from traincheck.values import Value

StepOf = Callable[..., list[Record]]
WriteTrace = Callable[..., Path]

_CONTEXT = Context("train", 0, True, "")
_NAMES = tuple(f"Net.conv{layer}.weight" for layer in range(8))
_APIS = (
    "torch.optim.adamw.AdamW.step",
    "torch.nn.modules.linear.Linear.forward",
    "torch.nn.functional.cross_entropy",
    "torch._tensor.Tensor.backward",
)


def _call(seq: int, step: int) -> Call:
    args: dict[str, Value] = (
        {"dtype": "float32", "shape": (64, 1, 28, 28), "lr": 0.001, "flag": True} if seq % 2 else {}
    )
    out: dict[str, Value] = {"dtype": "float32", "shape": (64, 10), "value": 1 / (seq + 1)}
    api = _APIS[seq % len(_APIS)]
    return Call(seq, seq, -1, "loss", api, "Net.fc1", _CONTEXT, args, out, "", 0, 1_000_003 * seq, 7_919 * step + seq)


def _state(seq: int, call: int) -> Snapshot:
    hashes = tuple((seq * 8 + place) * 0x9E3779B97F4A7C15 % 2**64 for place in range(8))
    norms = tuple(1 / (value + 1) for value in hashes)
    return Snapshot(seq, call, "before", "grad", _NAMES, hashes, norms)


def _variable(name: str) -> Variable:
    return Variable(name, "param", (64, 64), "float32", True, "AdamW", "AdamW.group0", True, "Conv2d", True, "")


@pytest.fixture
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is a batch of its own."""
    monkeypatch.setattr(writer, "ROWS_A_BATCH", 1)


@pytest.fixture
def step_of() -> StepOf:
    """``step_of(step, calls=3, states=1)``: the records of one step, a table of variables among them, and its end."""

    def make(step: int, calls: int = 3, states: int = 1) -> list[Record]:
        first = step * (calls + states + 2)
        records: list[Record] = [VariableTable(first, tuple(map(_variable, _NAMES)))]
        records += [_call(first + 1 + place, step) for place in range(calls)]
        records += [_state(first + 1 + calls + place, first + 1) for place in range(states)]
        return [*records, StepEnd(first + 1 + calls + states, step)]

    return make


@pytest.fixture
def write_trace(tmp_path: Path) -> WriteTrace:
    """``write_trace((process, records), ...)``: a trace directory with a part for each pair."""

    def write(*parts: tuple[Process, Iterable[Record]]) -> Path:
        directory = tmp_path / "trace"
        write_manifest(directory, Manifest.for_command(["python", "train.py"]))
        for process, records in parts:
            writer = Writer(directory, process)
            for record in records:
                writer.add(record)
            writer.close()
        return directory

    return write
