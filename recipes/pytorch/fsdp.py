"""Sharded training on two processes: FullyShardedDataParallel, or ``fully_shard`` with ``--per-parameter``.

The model is wrapped before its optimizer is built; gradients are accumulated, and clipped over all shards.
"""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from data import split_digits
from processes import leave, run
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.grow = nn.Linear(width, 2 * width)
        self.shrink = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.shrink(F.relu(self.grow(self.norm(x))))


def shard(model: nn.Sequential, per_parameter: bool, original: bool) -> Any:
    if not per_parameter:
        policy = ModuleWrapPolicy({Block})
        cpu = torch.device("cpu")
        return FullyShardedDataParallel(model, auto_wrap_policy=policy, device_id=cpu, use_orig_params=original)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("data",))
    for layer in model:
        if isinstance(layer, Block):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def synchronised(model: Any, per_parameter: bool, now: bool) -> contextlib.AbstractContextManager[None]:
    """Where gradients are reduced over the ranks in the backward pass, or only added up."""
    if per_parameter:
        model.set_requires_gradient_sync(now)
    return contextlib.nullcontext() if now or per_parameter else model.no_sync()


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(args.seed)
    training, _ = split_digits()
    data = TensorDataset(*training)
    sampler = DistributedSampler(data, seed=args.seed)
    loader = DataLoader(data, batch_size=args.batch_size, sampler=sampler, drop_last=True)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Block(32), Block(32), nn.Linear(32, 10))
    model = shard(network, args.per_parameter, args.original)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        model.train()
        for number, (images, target) in enumerate(loader, start=1):
            last = number % args.accumulation == 0
            with synchronised(model, args.per_parameter, last):
                loss = F.cross_entropy(model(images), target) / args.accumulation
                loss.backward()
            if last:
                if args.per_parameter:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                else:
                    model.clip_grad_norm_(1.0)
                optimizer.step()
                optimizer.zero_grad()
        if dist.get_rank() == 0:
            print(f"epoch {epoch} loss {args.accumulation * loss.item():.4f}")
    leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=24, help="per process")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--per-parameter", action="store_true", help="fully_shard instead of the wrapper")
    parser.add_argument("--original", action="store_true", help="the wrapper with use_orig_params=True")
    run(train, parser.parse_args())


if __name__ == "__main__":
    main()
