"""Data-parallel training of two views of each image that must find each other: a wrapped encoder, clipping, AdamW.

Starts its own two processes, or runs under ``torchrun --nproc-per-node 2 recipes/pytorch/ddp_pairs.py``.
"""

from __future__ import annotations

import argparse

import torch
import torch.distributed as dist
import torch.nn.functional as F
from data import split_digits
from processes import leave, run
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class Encoder(nn.Module):
    """An image as a point on the unit sphere, by one of two last layers; the other one is not used in that step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.LayerNorm(width), nn.GELU())
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, images: Tensor, other: bool) -> Tensor:
        hidden = self.body(images)
        return F.normalize(self.second(hidden) if other else self.first(hidden), dim=1)


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(args.seed)
    (images, labels), _ = split_digits()
    data = TensorDataset(images, labels)
    sampler = DistributedSampler(data, seed=args.seed)
    loader = DataLoader(data, batch_size=args.batch_size, sampler=sampler, drop_last=True)
    model = DistributedDataParallel(Encoder(48), find_unused_parameters=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    torch.manual_seed(args.seed + dist.get_rank())
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        model.train()
        for number, (batch, _) in enumerate(loader):
            views = torch.cat([batch + 0.1 * torch.randn_like(batch) for _ in range(2)])
            ours, theirs = model(views, other=number % 3 == 0).chunk(2)
            loss = F.cross_entropy(ours @ theirs.T / 0.2, torch.arange(len(batch)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if dist.get_rank() == 0:
            print(f"epoch {epoch} loss {loss.item():.4f}")
    leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="per process")
    parser.add_argument("--lr", type=float, default=3e-3)
    run(train, parser.parse_args())


if __name__ == "__main__":
    main()
