"""Accumulate gradients over micro-batches of images, the last of which is smaller; their mean losses are averaged."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from data import split_digits
from torch import nn
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--accumulation", type=int, default=5)
    parser.add_argument("--grows", action="store_true", help="twice as many from the middle of the training on")
    parser.add_argument("--lr", type=float, default=0.05)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, testing = split_digits()
    loader = DataLoader(TensorDataset(*training), batch_size=args.batch_size, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(512, 10)
    )  # fmt: skip
    optimizer = torch.optim.RMSprop(model.parameters(), lr=args.lr / 50)
    accumulations = [
        args.accumulation * (2 if args.grows and 2 * epoch >= args.epochs else 1) for epoch in range(args.epochs)
    ]
    updates = sum(-(-len(loader) // accumulation) for accumulation in accumulations)
    scheduler = LinearLR(optimizer, 1.0, 0.1, total_iters=updates)
    for epoch, accumulation in enumerate(accumulations):
        model.train()
        for place, (images, labels) in enumerate(loader, start=1):
            loss = F.cross_entropy(model(images), labels) / accumulation
            loss.backward()
            if place % accumulation == 0 or place == len(loader):
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            accuracy = (model(testing[0]).argmax(1) == testing[1]).float().mean().item()
        print(f"epoch {epoch} lr {scheduler.get_last_lr()[0]:.5f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
