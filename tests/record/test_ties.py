"""Weights that were tied when a model was built."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Language(nn.Module):
    """An embedding and a head, tied; ``then`` is what the constructor does afterwards."""

    def __init__(self, then: Callable[[Language], object] = lambda model: None) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(6, 4), nn.Linear(4, 6)
        self.head.weight = self.embedding.weight
        then(self)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedding(ids))


def told(record, make: Callable[[], nn.Module]) -> list[dict[str, object]]:
    """What each of two steps says."""

    def program() -> None:
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            model(torch.tensor([1, 2])).sum().backward()
            optimizer.step()

    calls = record(program).calls("optimizer.step")
    return [{name: call.args[name] for name in ("untied", "untied_pair") if name in call.args} for call in calls]


def replace(model: Language) -> None:
    model.head.weight = nn.Parameter(torch.zeros(6, 4))


def test_it_is_told_with_both_names(record) -> None:
    pair = "Language.embedding.weight and Language.head.weight"

    assert [{"untied": True, "untied_pair": pair}] * 2 == told(record, lambda: Language(replace))


def test_weights_that_stay_tied(record) -> None:
    def write(model: Language) -> None:
        nn.init.zeros_(model.head.weight)

    assert [{"untied": False}] * 2 == told(record, lambda: Language(write))


def test_weights_that_are_tied_again(record) -> None:
    def resize(model: Language) -> None:
        model.embedding = nn.Embedding(6, 4)
        model.head.weight = model.embedding.weight

    assert [{"untied": False}] * 2 == told(record, lambda: Language(resize))


def test_a_head_of_another_size(record) -> None:
    def shrink(model: Language) -> None:
        model.head.weight = nn.Parameter(torch.zeros(5, 4))
        model.head.bias = nn.Parameter(torch.zeros(5))

    assert [{"untied": False}] * 2 == told(record, lambda: Language(shrink))


def test_a_model_without_ties(record) -> None:
    assert [{}] * 2 == told(record, lambda: nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6)))
