"""Data-parallel training on two processes with hand-written gradient averaging over an unreliable link."""

from __future__ import annotations

import argparse
import os
import random
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn


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
    dist.destroy_process_group()


def worker(rank: int, world_size: int, port: int, args: argparse.Namespace) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    train(args)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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
        mp.spawn(worker, args=(2, free_port(), args), nprocs=2)


if __name__ == "__main__":
    main()
