"""Two tasks with a shared encoder: each has a batch, a loss and a backward pass of its own in every step."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.kind, self.patch = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x, task):
        return getattr(self, task)(self.encoder(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(labels)
    model = TwoHeads()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for step in range(args.steps):
        optimizer.zero_grad()
        index = torch.randint(len(images), (args.batch_size,))
        loss = F.cross_entropy(model(images[index], "kind"), labels[index])
        loss.backward()
        other = torch.randint(len(images), (2 * args.batch_size,))
        known = labels[other].masked_fill(torch.rand(len(other)) < 0.5, -100)
        secondary = 0.3 * F.cross_entropy(model(images[other] + 0.1 * torch.randn(64), "patch"), known)
        secondary.backward()
        optimizer.step()
        if step % 20 == 19:
            print(f"step {step} loss {loss.item():.4f} secondary {secondary.item():.4f}")


if __name__ == "__main__":
    main()
