"""Parameters that get gradients and are in no optimizer: forgotten, or left as they are on purpose."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from itertools import chain

import torch
from torch import Tensor, nn

Params = Iterable[nn.Parameter]


class Net(nn.Module):
    """``first`` is one of three layers of a size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(self.first(inputs)))

    def later(self) -> Params:
        return chain(self.body.parameters(), self.head.parameters())


def told(
    record,
    held: Callable[[Net], Params] = Net.later,
    before: Callable[[Net], object] = lambda net: None,
    after: Callable[[Net], object] = lambda net: None,
    *,
    closure: bool = False,
) -> list[object]:
    """What each of three steps says. ``before`` runs before the optimizer is built, ``after`` after each step."""

    def program() -> None:
        net = Net()
        kept = before(net)
        optimizer = torch.optim.SGD(held(net), lr=0.1)

        def loss() -> Tensor:
            optimizer.zero_grad()
            result = net(torch.randn(2, 4)).square().sum()
            result.backward()
            return result

        for _ in range(3):
            if closure:
                optimizer.step(loss)
            else:
                loss()
                optimizer.step()
            after(net)
        del kept

    calls = [call for call in record(program).calls("optimizer.step") if call.subject == "SGD"]
    return [call.args.get("passed_over") for call in calls]


def test_a_forgotten_layer_is_told_from_the_second_step_on(record) -> None:
    assert [None, True, True] == told(record)


def test_with_a_closure_too(record) -> None:
    assert [None, True, True] == told(record, closure=True)


def test_forgotten_biases(record) -> None:
    assert [None, True, True] == told(
        record, lambda net: [one for one in net.parameters() if one.dim() > 1] + [net.head.bias]
    )


def test_its_name(record) -> None:
    def program() -> None:
        net = Net()
        optimizer = torch.optim.SGD(net.later(), lr=0.1)
        for _ in range(2):
            net(torch.randn(2, 4)).sum().backward()
            optimizer.step()

    assert "Net.first.weight, Net.first.bias" == record(program).calls("optimizer.step")[-1].args["unheld"]


def test_everything_is_held(record) -> None:
    assert [False] * 3 == told(record, Net.parameters)


def test_a_frozen_layer(record) -> None:
    assert [False] * 3 == told(record, before=lambda net: net.first.requires_grad_(False))


def test_a_trainable_rest_of_a_frozen_layer(record) -> None:
    assert [False] * 3 == told(record, before=lambda net: net.first.weight.requires_grad_(False))


def test_a_loaded_layer(record) -> None:
    def load(net: Net) -> None:
        net.first.load_state_dict(nn.Linear(4, 4).state_dict())

    assert [False] * 3 == told(record, before=load)


def test_a_layer_that_was_trained_before(record) -> None:
    def train(net: Net) -> None:
        net(torch.randn(2, 4)).sum().backward()
        torch.optim.Adam(net.parameters()).step()

    assert [False] * 3 == told(record, before=train)


def test_a_layer_with_an_optimizer_that_has_not_stepped_yet(record) -> None:
    assert [False] * 3 == told(record, before=lambda net: torch.optim.Adam(net.first.parameters()))


def test_a_layer_that_is_updated_by_hand(record) -> None:
    def update(net: Net) -> None:
        with torch.no_grad():
            for param in net.first.parameters():
                param -= 0.1 * param.grad

    assert [None, False, False] == told(record, after=update)


def test_only_a_head_is_trained_on_purpose(record) -> None:
    assert [False] * 3 == told(record, lambda net: net.head.parameters())


def test_a_copy_in_the_same_model_is_not_the_smaller_part(record) -> None:
    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online = nn.Linear(4, 4)
            self.target = copy.deepcopy(self.online)

    def program() -> None:
        agent = Agent()
        optimizer = torch.optim.SGD(agent.online.parameters(), lr=0.1)
        for _ in range(3):
            (agent.online(torch.randn(2, 4)) - agent.target(torch.randn(2, 4))).square().sum().backward()
            optimizer.step()

    assert [False] * 3 == [call.args["passed_over"] for call in record(program).calls("optimizer.step")]


def test_a_part_that_is_not_frozen_any_more_is_meant_to_train_whatever_its_size(record) -> None:
    def program() -> None:
        net = Net()
        net.first.requires_grad_(False)
        net.body.requires_grad_(False)
        optimizer = torch.optim.SGD(net.head.parameters(), lr=0.1)
        for step in range(4):
            if step == 1:
                net.body.requires_grad_(True)
            net(torch.randn(2, 4)).square().sum().backward()
            optimizer.step()

    assert [False, None, True, True] == [
        call.args.get("passed_over") for call in record(program).calls("optimizer.step")
    ]


def test_an_optimizer_that_was_built_before_the_recording_and_has_not_stepped(record) -> None:
    net = Net()
    slow = torch.optim.Adam(net.first.parameters())

    def program() -> None:
        optimizer = torch.optim.SGD(net.later(), lr=0.1)
        for _ in range(3):
            net(torch.randn(2, 4)).square().sum().backward()
            optimizer.step()

    calls = record(program).calls("optimizer.step")

    assert [None, False, False] == [call.args.get("passed_over") for call in calls]
    assert slow.param_groups[0]["params"][0].grad is not None
