"""Gradients that are clipped while they still accumulate, and those that are clipped as they should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

MICRO_STEPS = 3


def told(
    record,
    clip: Callable[[nn.Module, int], object],
    clear: Callable[[torch.optim.Optimizer], object] = torch.optim.Optimizer.zero_grad,
) -> list[object]:
    """What each clipping of two steps says."""

    def program() -> None:
        model = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            for micro_step in range(MICRO_STEPS):
                model(torch.randn(8, 4)).square().sum().backward()
                clip(model, micro_step)
            optimizer.step()
            clear(optimizer)

    return [call.args.get("again") for call in record(program).calls("grad.clip")]


def test_on_each_micro_batch(record) -> None:
    assert [False, True, True] * 2 == told(record, lambda model, _: clip_grad_norm_(model.parameters(), 1e-3))


def test_a_bound_that_is_never_reached_cuts_nothing(record) -> None:
    assert [False] * 6 == told(record, lambda model, _: clip_grad_norm_(model.parameters(), 1e6))


def zero_in_place(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad.zero_()


@pytest.mark.parametrize("clear", [torch.optim.Optimizer.zero_grad, zero_in_place])
def test_after_the_last_micro_batch(clear: Callable[[torch.optim.Optimizer], object], record) -> None:
    def clip(model: nn.Module, micro_step: int) -> None:
        if micro_step == MICRO_STEPS - 1:
            clip_grad_norm_(model.parameters(), 1e-3)

    assert [False] * 2 == told(record, clip, clear)


def test_each_layer_by_itself_and_twice(record) -> None:
    def clip(model: nn.Module, micro_step: int) -> None:
        if micro_step == MICRO_STEPS - 1:
            clip_grad_norm_([model.weight], 1e-2)
            clip_grad_norm_([model.bias], 1e-2)
            clip_grad_norm_(model.parameters(), 1e-3)

    assert [False] * 6 == told(record, clip)


def test_several_steps_for_one_batch(record) -> None:
    """Each epoch of a policy's update clears, clips and steps: nothing accumulates."""

    def program() -> None:
        model = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in torch.utils.data.DataLoader(torch.randn(8, 4), 4):
            for _ in range(3):
                optimizer.zero_grad(set_to_none=False)
                model(batch).square().sum().backward()
                clip_grad_norm_(model.parameters(), 1e-3)
                optimizer.step()

    assert [False] * 6 == [call.args["again"] for call in record(program).calls("grad.clip")]


def test_gradients_that_were_dropped_are_not_taken_for_later_ones(record) -> None:
    """The next gradients may lie where those lay."""

    def program() -> None:
        model = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for num_passes in (2, 4, 6, 8):
            for _ in range(num_passes):
                model(torch.randn(8, 4)).square().sum().backward()
            clip_grad_norm_(model.parameters(), 1e-3)
            for param in model.parameters():
                param.grad = None
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()

    assert [False] * 4 == [call.args["again"] for call in record(program).calls("grad.clip")]


def blind(record, given: Callable[[nn.Module], object]) -> list[object]:
    """What clippings say of which gradients they see; ``given`` is built once, before the training."""

    def program() -> None:
        model = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        parameters = given(model)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().sum().backward()
            clip_grad_norm_(parameters, 1.0)
            optimizer.step()

    return [call.args.get("blind") for call in record(program).calls("grad.clip")]


@pytest.mark.filterwarnings("ignore:`parameters` is an empty generator")
def test_a_generator_of_parameters_has_run_out(record) -> None:
    assert [False, True] == blind(record, lambda model: model.parameters())


def test_a_list_of_parameters(record) -> None:
    assert [False, False] == blind(record, lambda model: list(model.parameters()))


def test_nothing_is_given_on_purpose(record) -> None:
    assert [None, None] == blind(record, lambda model: [])
