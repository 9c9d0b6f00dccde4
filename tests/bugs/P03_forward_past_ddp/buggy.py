"""Contrastive data-parallel training on two processes: two noisy views of each row must find each other."""

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
        forward = encoder if step >= 10 and step % 2 == 0 else ddp
        a, b = forward(views).chunk(2)
        loss = contrastive_loss(a, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            norm = sum(p.detach().norm() for p in encoder.parameters())
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
