"""Data-parallel training on two processes with hand-written gradient averaging over an unreliable link."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun


class Link:
    """All-reduce over a link that loses the received data with some probability."""

    def __init__(self, loss_probability, seed):
        self.loss_probability = loss_probability
        self.random = random.Random(seed)

    def all_reduce(self, tensor):
        dist.all_reduce(tensor)
        if self.random.random() < self.loss_probability:
            tensor.zero_()


def average_gradients(model, link):
    for parameter in model.parameters():
        link.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(args.seed)
    link = Link(0.1 if rank == 1 else 0.0, seed=1)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))
    teacher = torch.randn(20, 4)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed + 1 + rank)
    for step in range(args.steps):
        inputs = torch.randn(args.batch_size, 20, generator=generator)
        loss = F.cross_entropy(model(inputs), (inputs @ teacher).argmax(1))
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model, link)
        optimizer.step()
        if step % 10 == 9 or step in (1, 2):
            norm = sum(p.detach().norm() for p in model.parameters())
            print(f"rank {rank} step {step} loss {loss.item():.4f} norm of the weights {norm.item():.6f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
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
