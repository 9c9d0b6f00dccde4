"""What ``torch.compile``, checkpointing, function transforms and CUDA graphs make of a program stays as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import traincheck
from traincheck.record import active
from traincheck.watching import Watch

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _nothing_stays_active() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    session = active()
    if session is not None:
        session.close()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = F.dropout(F.relu(self.norm(self.body(inputs))), 0.1, self.training)
        return self.head(torch.matmul(hidden, hidden.T) @ hidden)


@dataclass(frozen=True)
class Compilation:
    """What dynamo counted, and what came of the training."""

    graphs: int
    operations: int
    breaks: int
    losses: list[float]


def compiled(steps: int = 6, start: Callable[[int, nn.Module], None] = lambda step, model: None) -> Compilation:
    """Training and evaluation of a compiled model. ``start`` is called at the beginning of each step."""
    from torch._dynamo.testing import CompileCounter
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(1)
    counter, inner = CompileCounter(), Net()
    model = torch.compile(inner, backend=counter)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for step in range(steps):
        start(step, inner)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(4, 4)), torch.zeros(4, dtype=torch.int64))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            model(torch.randn(4, 4))
        model.train()
    return Compilation(counter.frame_count, counter.op_count, sum(counters["graph_break"].values()), losses)


@pytest.mark.parametrize("overhead", [None, 0.02, 0.0])
def test_a_compiled_model_has_no_new_graph_breaks_and_no_recompiles(overhead: float | None) -> None:
    expected = compiled(steps=30)
    with traincheck.watch(overhead=overhead) as watched:
        found = compiled(steps=30)

    assert 0 == expected.breaks
    assert expected == found
    assert 0 < watched.result.steps
    assert () == watched.findings


def test_a_model_that_was_compiled_before_the_watch_is_compiled_once_more_and_not_again() -> None:
    """The functions that a watch wraps are others from then on: dynamo guards on that."""
    watches: list[Watch] = []

    def begin_at_step_3(step: int, model: nn.Module) -> None:
        if step == 3:
            watches.append(traincheck.watch(overhead=None))

    expected, found = compiled(steps=20), compiled(steps=20, start=begin_at_step_3)
    watches[0].close()

    assert (2 * expected.graphs, 0, expected.losses) == (found.graphs, found.breaks, found.losses)
    assert () == watches[0].findings


FRESH = """
import json, runpy, sys, warnings
warnings.simplefilter("ignore")
import torch, traincheck
tests = runpy.run_path(sys.argv[1])
watched = traincheck.watch(overhead=None) if sys.argv[2] == "watched" else None
found = tests["compiled"]()
print(json.dumps([found.graphs, found.operations, found.breaks, found.losses]))
if watched is not None:
    watched.close()
    found = tests["compiled"]()
    print(json.dumps([found.graphs, found.operations, found.breaks, found.losses]))
"""


@pytest.mark.slow
def test_a_watch_that_begins_before_dynamo_is_imported_breaks_no_graph_then_or_later() -> None:
    """Dynamo lists torch's functions as it is imported, which any optimizer does."""

    def compiled_afresh(how: str) -> list[list[object]]:
        command = [sys.executable, "-c", FRESH, __file__, how]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in output.splitlines() if line.startswith("[")]

    (expected,) = compiled_afresh("alone")

    assert 0 == expected[2]
    assert [expected, expected] == compiled_afresh("watched")


def test_the_counters_see_a_hook_that_breaks_the_graph() -> None:
    def add_hook(step: int, model: Any) -> None:
        if step == 0:
            model.body.register_forward_hook(lambda *args: print(end=""))

    assert 0 < compiled(start=add_hook).breaks


def test_facts_at_the_border_of_a_compiled_model_are_checked() -> None:
    def overwrite(step: int, model: Any) -> None:
        if step in (3, 4):
            with torch.no_grad():
                model.head.weight.add_(1.0)

    with traincheck.watch(overhead=None) as watched:
        compiled(start=overwrite)

    assert ["WGT001"] == [finding.code for finding in watched.findings]
    assert {"OPT002", "GRD003", "LOS002"} <= {invariant.code for invariant in watched.result.held}


def checkpointed(*, reentrant: bool) -> list[float]:
    model, losses = Net(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        inputs = torch.randn(4, 4, requires_grad=True)
        loss = checkpoint(model, inputs, use_reentrant=reentrant).square().mean()
        loss.backward()
        optimizer.step()
        losses += [loss.item(), inputs.grad.sum().item()]
    return losses


def transformed() -> list[float]:
    """Per-sample gradients by ``vmap`` over ``grad``, applied by hand to an optimizer's parameters."""
    model, losses = nn.Linear(4, 2), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss_of(params: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, params, (inputs,)).square().sum()

    for _ in range(5):
        inputs, params = torch.randn(3, 4), dict(model.named_parameters())
        each = torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0))(params, inputs)
        for name, param in params.items():
            param.grad = each[name].mean(0).detach()
        optimizer.step()
        losses.append(loss_of(params, inputs[0]).item())
    return losses


PROGRAMS = {
    "checkpoint": lambda: checkpointed(reentrant=False),
    "reentrant checkpoint": lambda: checkpointed(reentrant=True),
    "vmap over grad": transformed,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_checkpointing_and_function_transforms_give_the_same(name: str) -> None:
    torch.manual_seed(2)
    expected = PROGRAMS[name]()
    torch.manual_seed(2)
    with traincheck.watch(overhead=None) as watched:
        found = PROGRAMS[name]()

    assert expected == found
    assert () == watched.findings
    assert 0 < watched.result.steps


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_is_captured_into_a_cuda_graph_and_replayed() -> None:
    def losses() -> list[float]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).cuda()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        graphed = torch.cuda.make_graphed_callables(model, (torch.randn(4, 4, device="cuda"),))
        found = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = graphed(torch.randn(4, 4, device="cuda")).square().mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    expected = losses()
    with traincheck.watch(overhead=None):
        assert expected == losses()
