"""What stands in the graph right below a loss, and masks and labels that say by themselves that they are wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from traincheck.record.labels import shifted_labels
from traincheck.record.loss_graph import loss_graph
from traincheck.record.masks import attention_mask_judged, padding_mask_judged, tokens_of

CLASSES = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
VALUES = torch.rand(8)


def logits() -> Tensor:
    return nn.Linear(5, 4)(torch.randn(8, 5))


def predictions() -> Tensor:
    return nn.Linear(5, 1)(torch.randn(8, 5))


def said(name: str, loss: Tensor) -> object:
    return loss_graph(loss).get(name)


@pytest.mark.parametrize(
    ("wrong", "loss"),
    [
        (True, lambda: F.cross_entropy(logits().softmax(1), CLASSES)),
        (True, lambda: F.cross_entropy(logits().view(2, 4, 4).softmax(-1).transpose(1, 2), CLASSES.view(2, 4)) + 1),
        (True, lambda: F.cross_entropy(logits().sigmoid(), CLASSES, label_smoothing=0.1)),
        (True, lambda: F.cross_entropy(logits().softmax(1), F.one_hot(CLASSES, 4).float())),
        (True, lambda: F.nll_loss(logits().softmax(1), CLASSES)),
        (True, lambda: F.binary_cross_entropy_with_logits(predictions().sigmoid().squeeze(1), VALUES)),
        (False, lambda: F.cross_entropy(logits(), CLASSES)),
        (False, lambda: F.nll_loss(logits().log_softmax(1), CLASSES)),
        (False, lambda: F.nll_loss(logits().softmax(1).log(), CLASSES)),
        (False, lambda: F.cross_entropy(logits() * logits().softmax(1), CLASSES)),
        (None, lambda: F.binary_cross_entropy(predictions().sigmoid().squeeze(1), VALUES)),
    ],
)
def test_a_loss_of_logits_is_given_probabilities(wrong: bool | None, loss: Any) -> None:
    assert said("probabilities", loss()) is wrong


@pytest.mark.parametrize(
    ("wrong", "loss"),
    [
        (True, lambda: ((predictions() - VALUES) ** 2).mean()),
        (True, lambda: (VALUES - predictions()).abs().mean() + 0.1),
        (True, lambda: (predictions().squeeze(1) - VALUES[:, None]).pow(2).mean()),
        (True, lambda: F.mse_loss(predictions(), VALUES)),
        (False, lambda: ((predictions().squeeze(1) - VALUES) ** 2).mean()),
        (False, lambda: ((predictions() - VALUES[:, None]) ** 2).mean()),
        (None, lambda: ((predictions() - predictions().T) ** 2).mean()),
        (None, lambda: F.cross_entropy(logits(), CLASSES)),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")  # torch says so of mse_loss alone
def test_a_difference_is_spread_over_all_pairs(wrong: bool | None, loss: Any) -> None:
    assert said("all_pairs", loss()) is wrong


def test_pairs_that_are_meant_are_none_of_its_business() -> None:
    score, centre = predictions().squeeze(1), nn.Parameter(torch.randn(8))

    assert said("all_pairs", (1 - (score[:, None] - score[None, :])).mean()) is not True
    assert said("all_pairs", ((score[:, None] - VALUES[None, :]) ** 2).mean()) is not True
    assert said("all_pairs", ((torch.randn(8, 8) - centre) ** 2).mean()) is None


@pytest.mark.parametrize(
    ("wrong", "loss"),
    [
        (True, lambda: F.cross_entropy(logits(), CLASSES) / 4 / 4),
        (True, lambda: F.mse_loss(logits(), torch.rand(8, 4)) / 2 / torch.tensor(2)),
        (False, lambda: F.cross_entropy(logits(), CLASSES) / 4),
        (False, lambda: F.cross_entropy(logits(), CLASSES) / 4 / 2),
        (False, lambda: F.cross_entropy(logits(), CLASSES, reduction="sum") / 8 / 8),
        (None, lambda: F.cross_entropy(logits(), CLASSES)),
    ],
)
def test_a_mean_is_divided_twice_by_one_number(wrong: bool | None, loss: Any) -> None:
    assert said("divided_twice", loss()) is wrong


def test_a_loss_without_a_graph_says_nothing() -> None:
    assert {} == loss_graph(torch.tensor(1.0)) == loss_graph(predictions()) == loss_graph(None)


IDS = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 0, 0, 0]])


def test_an_inverted_mask_keeps_what_fills_up_rows() -> None:
    def judged(mask: Tensor) -> object:
        return attention_mask_judged({"input_ids": IDS, "attention_mask": mask}).get("mask_inverted")

    assert judged((IDS == 0).long()) is True
    assert judged((IDS != 0).long()) is False
    assert judged(torch.ones_like(IDS)) is None
    assert padding_mask_judged(IDS, {"key_padding_mask": IDS != 0})["mask_inverted"] is True
    assert padding_mask_judged(IDS, {"src_key_padding_mask": IDS == 0})["mask_inverted"] is False
    assert {} == padding_mask_judged(IDS, {"key_padding_mask": IDS[:1] != 0})


def test_only_token_ids_are_tokens() -> None:
    assert tokens_of(((torch.randn(2, 5), IDS), {})) is IDS
    assert tokens_of(((torch.randn(2, 5), IDS[0]), {"lengths": torch.ones(2, 1).long()})) is None


class TinyForCausalLM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="tiny")


def test_labels_that_are_shifted_before_a_model_that_shifts_them() -> None:
    ids = torch.randint(100, (2, 12), generator=torch.Generator().manual_seed(0))
    shifted = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], dim=1)

    def judged(labels: Tensor, model: nn.Module | None = None) -> object:
        inputs = {"input_ids": ids, "labels": labels}
        return shifted_labels(model or TinyForCausalLM(), inputs).get("labels_shifted")

    assert judged(shifted) is True
    assert judged(ids) is False
    assert judged(ids.masked_fill(ids < 50, -100)) is False
    assert judged(ids.flip(1)) is None
    assert judged(shifted, nn.Linear(2, 2)) is None
