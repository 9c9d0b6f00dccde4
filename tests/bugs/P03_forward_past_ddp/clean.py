"""Contrastive data-parallel training on two processes: two noisy views of each row must find each other."""

from __future__ import annotations

import argparse
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def contrastive_loss(a, b, temperature=0.2):
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits)))


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(args.seed)
    encoder = nn.Sequential(nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 16))
    ddp = DistributedDataParallel(encoder)
    optimizer = getattr(torch.optim, args.optimizer)(ddp.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed + 1 + rank)
    ddp.train()
    for step in range(args.steps):
        rows = torch.randn(args.batch_size, 24, generator=generator)
        noise = torch.randn(2, args.batch_size, 24, generator=generator)
        views = torch.cat([rows + 0.3 * noise[0], rows + 0.3 * noise[1]])
        forward = ddp
        a, b = forward(views).chunk(2)
        loss = contrastive_loss(a, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            norm = sum(p.detach().norm() for p in encoder.parameters())
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
