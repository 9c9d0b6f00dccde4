"""Data-parallel training on two processes: DistributedDataParallel, DistributedSampler, rank 0 evaluates and saves.

Starts its own two processes, or runs under ``torchrun --nproc-per-node 2 recipes/pytorch/ddp.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from data import split_digits
from processes import leave, run
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    return (model(images).argmax(1) == labels).float().mean().item()


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(args.seed)
    checkpoint = args.output / f"ddp_{os.environ['MASTER_PORT']}.pt"
    training, testing = split_digits()
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(
        TensorDataset(*training), num_replicas=world_size, rank=rank, shuffle=True, seed=args.seed
    )
    loader = DataLoader(TensorDataset(*training), batch_size=args.batch_size, sampler=sampler)

    model = DistributedDataParallel(make_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        model.train()
        for number, (images, target) in enumerate(loader, start=1):
            last = number % args.accumulation == 0 or number == len(loader)
            with contextlib.nullcontext() if last else model.no_sync():
                loss = F.cross_entropy(model(images), target)
                (loss / args.accumulation).backward()
            if last:
                optimizer.step()
                optimizer.zero_grad()
        scheduler.step()
        if rank == 0:
            print(f"epoch {epoch} loss {loss.item():.4f} accuracy {evaluate(model.module, *testing):.3f}")
            torch.save(model.module.state_dict(), checkpoint)
        dist.barrier()

    model.module.load_state_dict(torch.load(checkpoint))
    print(f"rank {rank} restored accuracy {evaluate(model.module, *testing):.3f}")
    dist.barrier()
    if rank == 0:
        checkpoint.unlink()
    leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="per process")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches for each step")
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir()), help="where the checkpoint goes")
    run(train, parser.parse_args())


if __name__ == "__main__":
    main()
