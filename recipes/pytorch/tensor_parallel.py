"""Tensor-parallel training: a column- and a row-parallel layer over two processes, a replicated layer norm and head."""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from data import split_digits
from processes import leave, run
from torch import Tensor, nn


class CopyToRanks(torch.autograd.Function):
    """The same input on every rank: backward sums what the ranks send back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous()
        dist.all_reduce(total)
        return total


class SumOverRanks(torch.autograd.Function):
    """Forward sums the partial outputs of the ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class ParallelBlock(nn.Module):
    """A residual MLP whose hidden width is split over the ranks; ``tensor_model_parallel`` marks the shards."""

    def __init__(self, width: int, hidden: int, rank: int, ranks: int, seed: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        shard = torch.Generator().manual_seed(1000 * seed + rank)
        self.column = nn.Parameter(torch.randn(hidden // ranks, width, generator=shard) / width**0.5)
        self.row = nn.Parameter(torch.randn(width, hidden // ranks, generator=shard) / hidden**0.5)
        for parameter in self.parameters():
            parameter.tensor_model_parallel = parameter is self.column or parameter is self.row  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(F.linear(CopyToRanks.apply(self.norm(x)), self.column))
        return x + SumOverRanks.apply(F.linear(hidden, self.row))


def clip(parameters: list[nn.Parameter], max_norm: float) -> None:
    """Clips by the norm over all ranks: a replicated parameter counts once, a shard on each rank."""
    counted = [p for p in parameters if getattr(p, "tensor_model_parallel", False) or dist.get_rank() == 0]
    total = torch.stack([p.grad.pow(2).sum() for p in counted if p.grad is not None]).sum()
    dist.all_reduce(total)
    scale = min(1.0, max_norm / (total.sqrt().item() + 1e-6))
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(scale)


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(args.seed)
    (images, labels), _ = split_digits()
    block = ParallelBlock(64, 64, dist.get_rank(), dist.get_world_size(), args.seed)
    head = nn.Linear(64, 10)
    for parameter in head.parameters():
        parameter.tensor_model_parallel = False  # type: ignore[attr-defined]
    model = nn.Sequential(nn.Flatten(), block, head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    for step in range(args.steps):
        batch = torch.randint(len(images), (args.batch_size,))
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        clip(list(model.parameters()), 1.0)
        optimizer.step()
        if step % 10 == 0 and dist.get_rank() == 0:
            print(f"step {step} loss {loss.item():.4f}")
    leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-2)
    run(train, parser.parse_args())


if __name__ == "__main__":
    main()
