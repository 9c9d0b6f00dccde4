"""Train a digits MLP with gradient accumulation over four micro-batches and a cosine schedule."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    train_set = TensorDataset(images[:1408], labels[:1408])
    loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs * len(loader) // args.accumulation)
    for epoch in range(args.epochs):
        model.train()
        for micro_step, (inputs, target) in enumerate(loader):
            loss = F.cross_entropy(model(inputs), target) / args.accumulation
            loss.backward()
            if (micro_step + 1) % args.accumulation == 0:
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            accuracy = (model(images[1408:]).argmax(1) == labels[1408:]).float().mean().item()
        print(f"epoch {epoch} accuracy {accuracy:.3f} lr {scheduler.get_last_lr()[0]:.5f}")


if __name__ == "__main__":
    main()
