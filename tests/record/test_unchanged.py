"""Training is the same with and without a recording, and nothing of it stays."""

from __future__ import annotations

import copy
import io
import pickle
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

from traincheck.events import StepEnd
from traincheck.plan import Interruption, Plan
from traincheck.record import Session, active
from traincheck.record.snapshots import generator_states

PATCHED = [
    (nn.Module, "__call__"),
    (nn.Module, "train"),
    (nn.Module, "zero_grad"),
    (nn.Module, "load_state_dict"),
    (torch.Tensor, "backward"),
    (torch.Tensor, "__matmul__"),
    (torch.autograd, "backward"),
    (torch, "matmul"),
    (torch, "save"),
    (torch.jit, "script"),
    (F, "cross_entropy"),
    (F, "linear"),
    (F, "dropout"),
    (nn.init, "kaiming_uniform_"),
    (nn.utils, "clip_grad_norm_"),
    (torch.optim.Optimizer, "zero_grad"),
    (torch.optim.lr_scheduler.LRScheduler, "step"),
    (torch.optim.lr_scheduler.ReduceLROnPlateau, "step"),
    (DataLoader, "__iter__"),
    (torch.autocast, "__enter__"),
    (torch.amp.GradScaler, "step"),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)
        self.active = F.relu
        self.dropped = F.dropout

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.active(self.norm(self.body(inputs)))))


def batches(workers: int = 0) -> DataLoader:
    return DataLoader(
        TensorDataset(torch.randn(24, 4), torch.randint(0, 2, (24,))), batch_size=4, shuffle=True, num_workers=workers
    )


def plain(workers: int = 0, accumulate: int = 1) -> Any:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    losses = []
    for number, (inputs, labels) in enumerate(batches(workers)):
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        losses.append(loss.item())
        if number % accumulate == accumulate - 1:
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return model, losses


def scaled() -> Any:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    losses = []
    for number, (inputs, labels) in enumerate(batches()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(inputs), labels)
        scaler.scale(loss * (float("inf") if number == 2 else 1.0)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model, losses


def closure() -> Any:
    model, inputs, labels = Net(), torch.randn(8, 4), torch.randint(0, 2, (8,))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def loss_of() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    return model, [optimizer.step(loss_of).item() for _ in range(3)]


def _seeded(program: Callable[[], Any]) -> Any:
    torch.manual_seed(3)
    random.seed(3)
    model, losses = program()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return weights, losses, generator_states()


PROGRAMS = {
    "plain": plain,
    "accumulation": lambda: plain(accumulate=3),
    "workers": lambda: plain(workers=2),
    "scaler": scaled,
    "closure": closure,
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore:.*fork")
def test_training_is_bit_identical(name: str, record) -> None:
    weights, losses, states = _seeded(PROGRAMS[name])
    found: list[Any] = []
    kept = record(lambda: found.append(_seeded(PROGRAMS[name])))
    other_weights, other_losses, other_states = found[0]

    assert kept.closed
    assert losses == other_losses
    assert states == other_states
    assert list(weights) == list(other_weights)
    assert all(torch.equal(weights[key], other_weights[key]) for key in weights)


def test_a_skipped_step_is_told_and_ends_the_window(record) -> None:
    kept = record(scaled)

    assert [False, False, True, False, False, False] == [call.out["skipped"] for call in kept.calls("scaler.step")]
    assert [1] * 6 == [len(window.named("scaler.step")) for window in kept.windows]
    assert all(call.args.get("scaled") for call in kept.calls("backward"))


def _copies(model: nn.Module) -> None:
    copy.deepcopy(model)
    assert pickle.loads(pickle.dumps(model)).dropped.__name__ == "dropout"
    torch.save(model, io.BytesIO())


def test_models_still_copy_and_pickle() -> None:
    before = Net()
    session = Session(Plan(), lambda process: _Refusing())
    session.start()
    during = Net()
    _copies(before)
    _copies(during)
    session.close()

    _copies(before)
    _copies(during)
    assert during.dropped is F.dropout


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torch_script_still_compiles(record) -> None:
    def program() -> None:
        scripted = torch.jit.script(_scriptable)
        assert scripted(torch.ones(2)).shape == (2,)

    record(program)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_class_that_is_scripted_finds_the_names_around_it(record) -> None:
    def program() -> None:
        @torch.jit.script
        class Doubled:
            def __init__(self, number: int) -> None:
                self.number = _twice(number)

        assert Doubled(2).number == 4

    record(program)


def _twice(number: int) -> int:
    return 2 * number


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_model_with_a_scripted_part_is_recorded(record) -> None:
    def program() -> None:
        model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 2)))
        _train(model, torch.optim.SGD(model.parameters(), lr=0.1))

    kept = record(program)

    assert {"Sequential.0.weight", "Sequential.1.weight"} <= {name for each in kept.snapshots() for name in each.names}


class Late(nn.Module):
    """Not ready to be asked for attributes before all of it is built, as PEFT's ``ModulesToSaveWrapper``."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        self.scale = nn.Parameter(torch.ones(1))
        self.parts["main"] = nn.Linear(4, 2)
        self.ready = True

    def __getattr__(self, name: str) -> Any:
        if "ready" not in self.__dict__ and name not in ("parts", "scale", "ready"):
            raise KeyError(name)
        return super().__getattr__(name)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.scale * self.parts["main"](inputs)


def test_a_module_is_not_asked_for_attributes_while_it_is_built(record) -> None:
    def program() -> None:
        model = Late()
        _train(model, torch.optim.SGD(model.parameters(), lr=0.1))

    kept = record(program)

    assert "Late.scale" in {name for each in kept.snapshots() for name in each.names}


def _train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()


def _scriptable(inputs: torch.Tensor) -> torch.Tensor:
    return F.dropout(inputs, 0.5, False)


def test_everything_is_put_back(record) -> None:
    originals = [vars(owner).get(name) for owner, name in PATCHED]
    here = clip_grad_norm_
    seen: list[Any] = []

    def program() -> None:
        seen.append(clip_grad_norm_)
        seen.extend(vars(owner).get(name) for owner, name in PATCHED)

    record(program)

    assert seen[0] is not here
    assert [] == [name for now, then, (_, name) in zip(seen[1:], originals, PATCHED, strict=True) if now is then]
    assert originals == [vars(owner).get(name) for owner, name in PATCHED]
    assert clip_grad_norm_ is here
    assert active() is None
    assert not torch.nn.modules.module._global_forward_hooks
    assert not sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks


class _Refusing:
    def add(self, item: object) -> None:
        raise RuntimeError("disk full")

    def close(self) -> None:
        raise RuntimeError("still full")


def test_a_fault_of_ours_does_not_reach_the_training() -> None:
    expected = _seeded(plain)
    session = Session(Plan(), lambda process: _Refusing())
    session.start()
    with pytest.warns(RuntimeWarning, match="disk full"):
        found = _seeded(plain)
    with pytest.warns(RuntimeWarning, match="still full"):
        session.close()

    assert expected[1:] == found[1:]
    assert "disk full" in session.faults[0]


def test_a_fault_switches_only_that_hook_off(record, monkeypatch) -> None:
    from traincheck.record.hooks_schedule import ScheduleHooks

    def broken(*args: Any) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(ScheduleHooks, "begins", broken)
    with pytest.warns(RuntimeWarning, match=r"lr\.step: KeyError"):
        kept = record(plain, faults=True)

    assert [] == kept.calls("lr.step")
    assert 6 == len(kept.calls("optimizer.step"))


def test_a_deliberate_interruption_reaches_the_program() -> None:
    class Raising(_Refusing):
        def add(self, item: object) -> None:
            if isinstance(item, StepEnd):
                raise Interruption("violation")

        def close(self) -> None:
            """Nothing to close."""

    session = Session(Plan(), lambda process: Raising())
    session.start()
    with pytest.raises(Interruption):
        plain()
    session.close()

    assert active() is None


def _compiled(breaks: bool) -> Any:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()

    class Inner(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            hidden = F.dropout(self.body(inputs), 0.1, self.training)
            if breaks:
                torch._dynamo.graph_break()
            return self.head(torch.matmul(hidden, hidden.T) @ hidden)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.inner(inputs)

    model = torch.compile(Outer(), backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for count in (4, 4, 6, 6):
        loss = F.cross_entropy(model(torch.randn(count, 4)), torch.zeros(count, dtype=torch.int64))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            model(torch.randn(count, 4))
        model.train()
    return {name: dict(counters[name]) for name in ("stats", "frames")}, sum(counters["graph_break"].values())


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_the_compiler_sees_no_difference(breaks: bool, record) -> None:
    expected = _compiled(breaks)
    found: list[Any] = []
    kept = record(lambda: found.append(_compiled(breaks)))

    assert expected == found[0]
    assert {"Outer"} == {call.subject for call in kept.calls("forward")}
    assert 4 == len(kept.calls("optimizer.step"))
