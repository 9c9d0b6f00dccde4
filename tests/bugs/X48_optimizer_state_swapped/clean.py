"""Train a digits net with two equal branches, save after 20 steps, and resume in a new model and optimizer."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class TwoBranches(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Linear(32, 10)
        self.right = nn.Linear(32, 10)

    def forward(self, x):
        top, bottom = x.flatten(1).chunk(2, dim=1)
        return self.left(top) + self.right(bottom)


def fit(model, optimizer, images, labels, steps, batch_size):
    model.train()
    for step in range(steps):
        index = torch.randint(len(images), (batch_size,))
        loss = F.cross_entropy(model(images[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            moment = optimizer.state[model.left.weight]["exp_avg_sq"].norm().item()
            print(f"step {step} loss {loss.item():.4f} second moment of the left branch {moment:.6f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    model = TwoBranches()
    optimizer_class = getattr(torch.optim, args.optimizer)
    groups = [*model.left.parameters(), *model.right.parameters()]
    optimizer = optimizer_class(groups, lr=args.lr)
    fit(model, optimizer, images, labels, args.steps // 2, args.batch_size)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
        checkpoint = torch.load(path)
    model = TwoBranches()
    model.load_state_dict(checkpoint["model"])
    groups = [*model.left.parameters(), *model.right.parameters()]
    optimizer = optimizer_class(groups, lr=args.lr)
    optimizer.load_state_dict(checkpoint["optimizer"])
    fit(model, optimizer, images, labels, args.steps // 2, args.batch_size)


if __name__ == "__main__":
    main()
