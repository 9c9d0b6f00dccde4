"""Data-parallel training on two processes with accumulation; a model with a common and a rare branch."""

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

RARE_FROM = 9


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(16, 32)
        self.common = nn.Linear(32, 4)
        self.rare = nn.Linear(32, 4)

    def forward(self, x, rare):
        hidden = torch.tanh(self.body(x))
        return (self.rare if rare else self.common)(hidden)


class Reducer:
    """Averages gradients over the ranks, once per accumulated batch."""

    def __init__(self, model):
        self.parameters = list(model.parameters())
        self.touched = set()
        for parameter in self.parameters:
            parameter.register_post_accumulate_grad_hook(self.touched.add)

    def reduce(self):
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(args.seed)
    model = Router()
    teacher = torch.randn(16, 4)
    reducer = Reducer(model)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed + rank)
    for step in range(args.steps):
        optimizer.zero_grad()
        for micro in range(2):
            inputs = torch.randn(args.batch_size, 16, generator=generator)
            rare = step % RARE_FROM in (4, 5) if micro else step % RARE_FROM == 0 and step > 0
            loss = F.cross_entropy(model(inputs, rare), (inputs @ teacher).argmax(1)) / 2
            loss.backward()
        reducer.reduce()
        optimizer.step()
        if step % 10 == 9:
            print(f"rank {rank} step {step} loss {2 * loss.item():.4f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    if "RANK" in os.environ:
        train(args)
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])


if __name__ == "__main__":
    main()
