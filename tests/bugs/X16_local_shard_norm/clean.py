"""Sharded training with FullyShardedDataParallel on two processes; gradients are clipped after a warm-up."""

from __future__ import annotations

import argparse
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.run import main as torchrun

CLIP_FROM = 5


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(args.seed)
    network = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    teacher = torch.randn(16, 4)
    model = FullyShardedDataParallel(network, device_id=torch.device("cpu"))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed + rank)
    for step in range(args.steps):
        inputs = torch.randn(args.batch_size, 16, generator=generator)
        loss = F.cross_entropy(model(inputs), (inputs @ teacher).argmax(1))
        optimizer.zero_grad()
        loss.backward()
        if step >= CLIP_FROM:
            model.clip_grad_norm_(0.1)
        optimizer.step()
        if step % 10 == 9 and rank == 0:
            print(f"step {step} loss {loss.item():.4f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    if "RANK" in os.environ:
        train(args)
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])


if __name__ == "__main__":
    main()
