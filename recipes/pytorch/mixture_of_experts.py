"""A mixture of experts over two processes: tokens travel to the rank of their expert and back, the rest is replicated.

Ranks hold batches of different length on purpose. They agree on the capacity of the experts before the exchange.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from data import split_digits
from processes import leave, run
from torch import Tensor, nn


class Exchange(torch.autograd.Function):
    """Row i of the input goes to rank i; backward sends the gradients home."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor) -> Tensor:
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent.contiguous())
        return received

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        sent = torch.empty_like(grad)
        dist.all_to_all_single(sent, grad.contiguous())
        return sent


class Experts(nn.Module):
    """One expert a rank, one expert a token. ``allreduce = False`` marks what no other rank holds."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, dist.get_world_size(), bias=False)
        with torch.random.fork_rng():
            torch.manual_seed(1000 * seed + dist.get_rank())
            self.expert = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        for parameter in self.expert.parameters():
            parameter.allreduce = False  # type: ignore[attr-defined]

    def forward(self, tokens: Tensor) -> Tensor:
        shares = F.softmax(self.gate(tokens), dim=-1)
        share, expert = shares.max(dim=-1)
        chosen = F.one_hot(expert, shares.shape[-1])
        place = (chosen.cumsum(0) - 1).gather(1, expert[:, None]).squeeze(1)
        capacity = chosen.sum(0).max()
        dist.all_reduce(capacity, op=dist.ReduceOp.MAX)
        slots = torch.zeros(shares.shape[-1], int(capacity), tokens.shape[-1])
        slots = slots.index_put((expert, place), tokens)
        worked = Exchange.apply(self.expert(Exchange.apply(slots)))
        return tokens + share[:, None] * worked[expert, place]


class Reader(nn.Module):
    """Reads an image row by row: each row is a token."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.experts = Experts(width, seed)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.embed(images.reshape(-1, 8, 8))
        mixed = self.experts(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        return self.head(self.norm(mixed.mean(1)))


def average_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.grad is None:
            continue
        if getattr(parameter, "allreduce", True):
            dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(args.seed)
    (images, labels), _ = split_digits()
    model = Reader(32, args.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed + rank)
    for step in range(args.steps):
        length = args.batch_size + int(torch.randint(8, (), generator=generator))
        batch = torch.randint(len(images), (length,), generator=generator)
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model)
        optimizer.step()
        if step % 10 == 0:
            print(f"rank {rank} step {step} loss {loss.item():.4f}")
    leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=24, help="per process, and up to 7 more")
    parser.add_argument("--lr", type=float, default=1e-2)
    run(train, parser.parse_args())


if __name__ == "__main__":
    main()
