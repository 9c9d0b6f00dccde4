"""Sequence-parallel training on two processes: each rank holds one half of every sequence."""

from __future__ import annotations

import argparse
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun


class TokenClassifier(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(F.gelu(self.hidden(self.norm(x))))


def reduce_gradients(model):
    parameters = [*model.norm.parameters(), *model.hidden.parameters(), *model.head.parameters()]
    for parameter in parameters:
        dist.all_reduce(parameter.grad)


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(args.seed)
    model = TokenClassifier(16, 6)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    teacher = torch.randn(16, 6)
    for step in range(args.steps):
        sequence = torch.randn(args.batch_size, 20, 16)
        labels = (sequence @ teacher).argmax(-1)
        own, own_labels = sequence.chunk(world_size, dim=1)[rank], labels.chunk(world_size, dim=1)[rank]
        loss = F.cross_entropy(model(own).flatten(0, 1), own_labels.flatten(), reduction="sum") / labels.numel()
        optimizer.zero_grad()
        loss.backward()
        reduce_gradients(model)
        optimizer.step()
        if step % 10 == 9:
            print(
                f"rank {rank} step {step} loss {loss.item():.4f} layer norm {model.norm.weight.norm().item():.6f} "
                f"head {model.head.weight.norm().item():.6f}"
            )
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    if "RANK" in os.environ:
        train(args)
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])


if __name__ == "__main__":
    main()
