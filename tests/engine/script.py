"""A script for synthetic runs: the records that a plain training loop would leave, with faults written in by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from traincheck.events import Call, Context, Process, Record, Snapshot, StepEnd, Variable, VariableTable
from traincheck.values import Value
from traincheck.vocabulary import (
    AFTER,
    BACKWARD,
    BEFORE,
    CHECKPOINT_LOAD,
    DATA_NEXT,
    FORWARD,
    GRAD,
    LOSS,
    LR,
    LR_STEP,
    OPTIMIZER_STEP,
    PARAM,
    TRAINER_LOAD,
    ZERO_GRAD,
)
from traincheck.window import Window, windows

NAMES = ("Net.fc1.weight", "Net.fc1.bias", "Net.fc2.weight", "Net.fc2.bias")


def parameter(name: str, **changes: object) -> Variable:
    """A trainable parameter that SGD holds, but for ``changes``."""
    plain: dict[str, object] = {
        "name": name,
        "kind": PARAM,
        "shape": (4, 4),
        "dtype": "float32",
        "trainable": True,
        "optimizer": "SGD",
        "group": "SGD.group0",
        "in_model": True,
        "module": "Linear",
        "training": True,
        "tied": "",
    }
    return Variable(**{**plain, **changes})  # type: ignore[arg-type]  # the fields are those of Variable


@dataclass
class Script:
    """Writes the records of one process in order."""

    process: Process = field(default_factory=Process)
    seed: int = 0
    variables: Sequence[Variable] = tuple(map(parameter, NAMES))
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._seq = count(self.seed * 10_000_000)
        self._contents = count((self.seed + 1) * 1_000_003)
        self.params = {variable.name: next(self._contents) for variable in self.variables}
        self.grads: dict[str, int | None] = dict.fromkeys(self.params)
        self.context = Context(stage="train")
        self.steps = 0
        self.records.append(VariableTable(next(self._seq), tuple(self.variables)))

    def next_seq(self) -> int:
        """The next position in the order of records."""
        return next(self._seq)

    @contextmanager
    def call(self, role: str, subject: str = "", out: dict[str, Value] | None = None, **args: Value) -> Iterator[int]:
        """A call around what is written inside."""
        seq = next(self._seq)
        yield seq
        api = f"torch.{role}"
        self.records.append(Call(seq, next(self._seq), -1, role, api, subject, self.context, args, out or {}))

    def look(self, call: int, point: str, kind: str) -> None:
        """A snapshot at the border of a call."""
        held = {PARAM: self.params, GRAD: self.grads}.get(kind)
        if held is None:
            self.records.append(Snapshot(next(self._seq), call, point, LR, ("SGD.group0",), (None,), (0.1,)))
            return
        values = tuple(None if value is None else 1.0 for value in held.values()) if kind == GRAD else ()
        self.records.append(Snapshot(next(self._seq), call, point, kind, tuple(held), tuple(held.values()), values))

    def step(
        self,
        *,
        zero_grad: bool = True,
        moves: Sequence[str] | None = None,
        training: bool = True,
        backwards: int = 1,
        scheduler_steps: int = 1,
        batch: int | None = None,
        loss: float = 1.0,
        optimizer: str = "SGD",
    ) -> None:
        """One training step of the usual kind, with the faults asked for."""
        size = 8
        with self.call(
            DATA_NEXT, "DataLoader", {"hash": batch or next(self._contents), "size": size}, index=self.steps
        ):
            pass
        if zero_grad:
            with self.call(ZERO_GRAD, "SGD", set_to_none=True) as call:
                pass
            self.grads = dict.fromkeys(self.params)
            self.look(call, AFTER, GRAD)
        for _ in range(backwards):
            out: dict[str, Value] = {"requires_grad": True, "size": size, "dtype": "float32"}
            with self.call(FORWARD, "Net", out, training=training, size=size, inputs=next(self._contents)):
                pass
            with self.call(LOSS, "", {"dtype": "float32"}, input_dtype="float32", input_size=size, target_size=size):
                pass
            with self.call(BACKWARD, "", None, loss=loss) as call:
                self.look(call, BEFORE, GRAD)
            self.grads = {name: next(self._contents) for name in self.params}
            self.look(call, AFTER, GRAD)
        with self.call(OPTIMIZER_STEP, optimizer, {"grads": "all"}, closure=False, lr=0.1) as call:
            self.look(call, BEFORE, PARAM)
            self.look(call, BEFORE, LR)
        for name in self.params if moves is None else moves:
            self.params[name] = next(self._contents)
        self.look(call, AFTER, PARAM)
        self.look(call, AFTER, GRAD)
        for _ in range(scheduler_steps):
            with self.call(LR_STEP, "StepLR", {"last_epoch": self.steps}, in_init=False):
                pass
        self.end()

    def evaluation(self) -> None:
        """One batch in evaluation mode."""
        training, self.context = self.context, Context(stage="eval", grad_enabled=False)
        out: dict[str, Value] = {"requires_grad": False, "size": 8, "dtype": "float32"}
        with self.call(FORWARD, "Net", out, training=False, size=8, inputs=next(self._contents)):
            pass
        self.context = training

    def load(self, content: Mapping[str, int], *, told: bool = False) -> None:
        """Other weights for the model; ``told`` when a framework says that it puts them in."""
        with self.call(TRAINER_LOAD if told else CHECKPOINT_LOAD, "Net"):
            self.params.update(content)

    def end(self) -> None:
        """The end of the step."""
        self.records.append(StepEnd(next(self._seq), self.steps))
        self.steps += 1

    def windows(self) -> list[Window]:
        """Everything so far, as windows."""
        return list(windows(self.process, self.records))


def clean_run(steps: int = 12, seed: int = 0) -> Script:
    """A plain loop without a fault."""
    script = Script(seed=seed)
    for _ in range(steps):
        script.step()
        script.evaluation()
    return script


def side_by_side(ranks: Sequence[Script]) -> list[Window]:
    """The windows of the lowest rank, with their peers."""
    steps = list(zip(*(script.windows() for script in ranks), strict=True))
    for group in steps:
        group[0].peers = group
    return [group[0] for group in steps]
