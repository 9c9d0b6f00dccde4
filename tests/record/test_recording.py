"""What is recorded: the same under every plan, per process, and named as the program's own people would."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from traincheck.events import Call, Snapshot, StepEnd, VariableTable
from traincheck.plan import Plan
from traincheck.record import Session
from traincheck.relations.contract import Needs
from traincheck.vocabulary import DETAILS, PARAM


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.norm(self.body(inputs))))


def train(model: nn.Module | None = None, steps: int = 4, optimizer: torch.optim.Optimizer | None = None) -> nn.Module:
    model = model or Net()
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=0.01)
    data = TensorDataset(torch.randn(steps * 4, 4), torch.randint(0, 2, (steps * 4,)))
    for inputs, labels in DataLoader(data, batch_size=4, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        model(torch.randn(4, 4))
    model.train()
    return model


def _told(kept, roles: frozenset[str], places: frozenset[tuple[str, str, str]]) -> list[object]:
    """What a recording says about these roles and places, without positions and times."""
    found: list[object] = []
    role_of = {record.seq: record.role for record in kept.records if isinstance(record, Call)}
    for record in sorted(kept.records, key=lambda record: record.seq):
        if isinstance(record, Call) and record.role in roles:
            found.append((record.role, record.api, record.subject, record.context, dict(record.args), dict(record.out)))
        elif isinstance(record, Snapshot) and (role_of[record.call], record.point, record.kind) in places:
            found.append((role_of[record.call], record.point, record.kind, record.names, record.hashes, record.values))
        elif isinstance(record, StepEnd):
            found.append(("end", record.step))
    return found


NEEDS = [
    Needs(),
    Needs(frozenset({"dropout", "matmul"})),
    Needs(frozenset({"optimizer.step"}), frozenset({("optimizer.step", "before", "param")})),
    Needs(frozenset({"mode.train", "mode.eval"}), frozenset({("backward", "after", "grad")})),
]


@pytest.mark.parametrize("needs", NEEDS)
def test_a_selective_recording_tells_the_same(needs: Needs, record) -> None:
    torch.manual_seed(5)
    full = record(train)
    torch.manual_seed(5)
    selective = record(train, Plan.for_needs([needs, Needs(details=DETAILS)]))
    roles = needs.calls | {"forward", "backward", "optimizer.step", "optimizer.zero_grad", "data.next"}

    assert _told(full, roles, needs.snapshots) == _told(selective, roles, needs.snapshots)
    assert [w.variables for w in full.windows] == [w.variables for w in selective.windows]
    assert len(selective.records) < len(full.records)


def test_what_takes_time_is_worked_out_only_where_it_is_read(record) -> None:
    places = frozenset({("optimizer.step", "after", "grad")})
    torch.manual_seed(5)
    read = record(train, Plan.for_needs([Needs(snapshots=places, details=DETAILS)]))
    torch.manual_seed(5)
    unread = record(train, Plan.for_needs([Needs(snapshots=places, norms=False)]))

    assert all("target_weight" in call.args for call in read.calls("backward"))
    assert not any("target_weight" in call.args for call in unread.calls("backward"))
    assert all("inputs" in call.args for call in read.calls("forward"))
    assert not any("inputs" in call.args for call in unread.calls("forward"))
    assert all(snapshot.values for snapshot in read.snapshots())
    assert not any(snapshot.values for snapshot in unread.snapshots())
    assert [snapshot.hashes for snapshot in read.snapshots()] == [snapshot.hashes for snapshot in unread.snapshots()]


def test_layers_and_products_are_recorded_where_they_are_read(record) -> None:
    def trains() -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model[0](torch.ones(2, 3))
            with torch.autocast("cpu", enabled=False):
                F.linear(hidden.float(), model[2].weight)

    roles = frozenset({"module.forward", "matmul", "autocast"})
    run = record(trains, Plan.for_needs([Needs(roles)]))
    outside = record(trains, Plan.for_needs([Needs(frozenset({"optimizer.step"}))]))
    every = record(trains, Plan.for_needs([Needs(roles, details=DETAILS)]))

    assert ["Linear", "Linear"] == [call.args["kind"] for call in run.calls("module.forward")]
    assert ["bfloat16", "float32"] == [call.out["dtype"] for call in run.calls("matmul")]
    assert ["Linear", "ReLU", "Linear"] == [call.args["kind"] for call in every.calls("module.forward")]
    assert 4 == len(every.calls("matmul"))
    assert ["Sequential"] == [call.subject for call in outside.calls("forward")][:1]
    assert [] == outside.calls("module.forward")


def test_a_layer_has_the_context_that_it_runs_in_not_that_of_its_model(record) -> None:
    class Changing(nn.Module):
        """Turns autograd off, autocast on, and takes a backward pass of its own, all within one forward."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            self.layer(inputs)
            with torch.no_grad():
                self.layer(inputs)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                self.layer(inputs)
            self.layer(inputs).sum().backward()
            return self.layer(inputs)

    def trains() -> None:
        model = Changing()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()

    contexts = [call.context for call in record(trains).calls("module.forward")]

    assert [True, False, True, True, True] == [context.grad_enabled for context in contexts]
    assert ["", "", "bfloat16", "", ""] == [context.autocast for context in contexts]
    assert [0, 0, 0, 0, 1] == [context.micro_step for context in contexts]


def test_a_layer_is_seen_whose_parameters_are_taken_out_of_it_while_it_runs(record) -> None:
    class Sharded(nn.Module):
        """As FSDP does it: while the model runs, its layers have plain tensors in place of parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2, bias=False)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            weight = self.layer._parameters.pop("weight")
            self.layer.__dict__["weight"] = weight * 1
            outputs = self.layer(inputs)
            del self.layer.__dict__["weight"]
            self.layer._parameters["weight"] = weight
            return outputs

    def trains() -> None:
        model = Sharded()
        del model.layer._parameters["bias"]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.layer.__dict__["bias"] = None
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()

    run = record(trains, Plan.for_needs([Needs(frozenset({"module.forward"}))]))

    assert ["Sharded.layer"] == [call.subject for call in run.calls("module.forward")]


@pytest.mark.parametrize("cleared", [True, False])
def test_what_a_backward_pass_changed_is_told_without_reading_what_was_not_there(cleared: bool, record) -> None:
    def accumulates() -> None:
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad(set_to_none=cleared)
            model(torch.ones(4, 3)).sum().backward()
            model.bias.requires_grad_(False)
            model(torch.ones(4, 3)).mean().backward()
            model.bias.requires_grad_(True)
            optimizer.step()

    places = frozenset({("backward", "before", "grad"), ("backward", "after", "grad")})
    found = []
    for plan in (None, Plan.for_needs([Needs(snapshots=places)])):
        run = record(accumulates) if plan is None else record(accumulates, plan)
        found.append([window.changes(call, "grad") for window in run.windows for call in window.named("backward")])

    assert found[0] == found[1]
    assert {"Linear.weight": True, "Linear.bias": False} in found[1]


def test_snapshots_show_what_moves(record) -> None:
    window = record(train).windows[1]
    (step,) = window.named("optimizer.step")
    (backward,) = window.named("backward")
    (cleared,) = window.named("optimizer.zero_grad")
    (forward,) = window.named("forward")

    names = {f"Net.{part}.{kind}" for part in ("body", "norm", "head") for kind in ("weight", "bias")}
    assert dict.fromkeys(names, True) == window.changes(step, "param")
    assert dict.fromkeys(names, True) == window.changes(backward, "grad")
    assert {"Net.norm.running_mean": True, "Net.norm.running_var": True, "Net.norm.num_batches_tracked": True} == (
        window.changes(forward, "buffer")
    )
    after = window.snapshot(cleared, "after", "grad")
    assert after is not None
    assert {None} == set(after.hashes)
    state = window.snapshot(step, "after", "optimizer_state")
    assert state is not None
    assert "Net.body.weight/exp_avg" in state.names
    assert "all" == step.out["grads"]


def test_a_head_replaced_after_the_optimizer_is_seen(record) -> None:
    def program() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.head = nn.Linear(8, 2)
        train(model, optimizer=optimizer)

    variables = record(program).windows[1].variables

    assert ("", True) == (variables["Net.head.weight"].optimizer, variables["Net.head.weight"].in_model)
    replaced = "Net.head.weight (replaced)"
    assert ["SGD", False] == [variables[replaced].optimizer, variables[replaced].in_model]


class Metric(nn.Module):
    """As those of torchmetrics: compared and hashed by state, and equality is another metric."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __hash__(self) -> int:
        return hash(self.total)

    def __eq__(self, other: object) -> nn.Module:  # type: ignore[override]  # what metrics do
        both = Metric()
        both.first, both.second = self, other
        return both


def test_modules_are_told_apart_by_identity_whatever_they_call_equal(record) -> None:
    net = nn.Linear(4, 2)
    net.metrics = nn.ModuleList([Metric(), Metric()])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def program() -> None:
        for step in range(3):
            net(torch.ones(1, 4)).sum().backward()
            optimizer.step()
            net.metrics[0].total += 1
            if step == 1:
                net.metrics.append(Metric())

    kept = record(program)

    params = {name for shot in kept.snapshots() if shot.kind == PARAM for name in shot.names}
    assert {"Linear.weight", "Linear.bias"} == params


def test_tied_and_frozen_variables(record) -> None:
    def program() -> None:
        model = Net()
        model.again = nn.Linear(4, 8)
        model.again.weight = model.body.weight
        model.head.weight.requires_grad_(False)
        train(model)

    variables = record(program).windows[1].variables

    assert "Net.body.weight" == variables["Net.again.weight"].tied
    assert not variables["Net.head.weight"].trainable


def test_checkpoints(record) -> None:
    def program() -> None:
        model = train()
        file = io.BytesIO()
        torch.save({"model": model.state_dict(), "epoch": 1}, file)
        partial = {name: value for name, value in model.state_dict().items() if "head" not in name}
        torch.save(partial, io.BytesIO())
        with torch.no_grad():
            model.body.weight += 1
        torch.save(partial | {"body.weight": torch.zeros(8, 4)}, io.BytesIO())
        file.seek(0)
        model.load_state_dict({f"module.{k}": v for k, v in torch.load(file)["model"].items()}, strict=False)
        file.seek(0)
        model.load_state_dict(torch.load(file)["model"])

    kept = record(program)
    saves, loads = kept.calls("checkpoint.save"), kept.calls("checkpoint.load")

    assert ["Net"] * 3 == [call.out["matches"] for call in saves]
    assert [0, 2, 2] == [call.out["missing"] for call in saves]
    assert [0, 0, 1] == [call.out["differing"] for call in saves]
    assert [(8, 0), (0, 0)] == [(call.out["missing"], call.out["differing"]) for call in loads]
    assert [0, 1] == [call.out["changed"] for call in loads]


def test_recomputation_is_not_a_forward(record) -> None:
    class Saving(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(checkpoint(self.body, inputs, use_reentrant=False))

    kept = record(lambda: train(Saving()))

    assert 5 == len(kept.calls("forward"))
    assert 4 == sum(bool(call.args.get("recompute")) for call in kept.calls("module.forward"))


def test_a_forked_child_does_not_write_into_its_parent(tmp_path: Path) -> None:
    opened: list[int] = []
    results = multiprocessing.get_context("fork").SimpleQueue()

    class Counting:
        def __init__(self, process) -> None:
            opened.append(process.pid)
            self.pid, self.count = process.pid, 0

        def add(self, item: object) -> None:
            assert os.getpid() == self.pid
            self.count += 1

        def close(self) -> None:
            if self.pid != parent:
                results.put((self.pid, self.count))

    parent = os.getpid()
    session = Session(Plan(), Counting, project=tmp_path)
    session.start()
    train()
    child = multiprocessing.get_context("fork").Process(target=train)
    child.start()
    idle = multiprocessing.get_context("fork").Process(target=Net)
    idle.start()
    child.join()
    idle.join()
    session.close()

    assert [parent] == opened
    pid, count = results.get()
    assert child.pid == pid
    assert count > 20
    assert results.empty()
    assert [] == session.faults


def test_functions_of_the_project(record, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def outer(n):\n    return [inner(i) for i in range(n)]\n\n\ndef inner(i):\n    return i\n\n\n"
        "def fails():\n    raise KeyError\n\n\ndef gen():\n    yield 1\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import mine

        def program() -> None:
            mine.outer(2)
            list(mine.gen())
            with pytest.raises(KeyError):
                mine.fails()
            mine.outer(2000)
            train()

        kept = record(program, faults=True)
    finally:
        sys.path.remove(str(tmp_path))
    names = [call.api for call in kept.calls("")]

    assert ["mine.outer", "mine.inner", "mine.inner", "mine.fails", "mine.outer"] == names[:5]
    assert 1000 == names.count("mine.inner")


def test_a_step_that_is_left_out(tmp_path: Path) -> None:
    from traincheck.events import Process
    from traincheck.window import windows

    records: list[object] = []

    class Keeping:
        def __init__(self, process: Process) -> None:
            """Every process in one list."""

        def add(self, item: object) -> None:
            records.append(item)

        def close(self) -> None:
            """Nothing to close."""

    session = Session(Plan(), Keeping, project=tmp_path)
    session.decide = lambda step: 2 if step == 1 else step
    session.start()
    train()
    session.close()

    assert [True, False, True] == [record.recorded for record in records if isinstance(record, StepEnd)]
    assert [0, 2, 3] == [window.step for window in windows(Process(), records)]
    assert any(isinstance(record, VariableTable) for record in records)


def test_a_step_that_raised_does_not_hide_the_next(record) -> None:
    class Unsteady(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):  # torch's hooks run for this and for the inherited one
            self.steps += 1
            if self.steps == 1:
                raise RuntimeError("out of memory")
            return super().step(closure)

    def program() -> None:
        model = Net()
        optimizer = Unsteady(model.parameters(), lr=0.1)
        for _ in range(3):
            model(torch.randn(4, 4)).sum().backward()
            try:
                optimizer.step()
            except RuntimeError:
                optimizer.zero_grad()

    steps = record(program).calls("optimizer.step")

    assert ["Exception", "", ""] == [step.error for step in steps]


def test_transforms_fake_tensors_and_traces_are_left_alone(record) -> None:
    def program() -> None:
        model = Net().eval()
        weights = dict(model.named_parameters())

        def loss(given: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(model, given, (inputs,)).sum()

        torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, torch.randn(5, 3, 4))
        with torch._subclasses.FakeTensorMode():
            Net()(torch.randn(2, 4)).sum().backward()
        torch.fx.symbolic_trace(model)(torch.randn(2, 4)).sum().backward()

    record(program)


def test_what_was_frozen_is_asked_of_the_moment_of_each_optimizer_step(record) -> None:
    def program() -> None:
        nets = [torch.nn.Linear(2, 1) for _ in range(2)]
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
        for _ in range(2):
            for net, optimizer in zip(nets, optimizers, strict=True):
                for other in nets:
                    other.requires_grad_(other is net)
                optimizer.zero_grad()
                net(torch.ones(1, 2)).sum().backward()
                optimizer.step()

    kept = record(program)

    for window in kept.windows[:2]:
        for step in window.named("optimizer.step"):
            own = [found for found in window.variables_at(step).values() if found.optimizer == step.subject]
            assert [True, True] == [found.trainable for found in own]
