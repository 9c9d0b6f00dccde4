"""Class-incremental learning: five digits first, all ten afterwards."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


def grow_head(model, classes):
    old = model.head
    model.head = nn.Linear(old.in_features, classes)
    with torch.no_grad():
        model.head.weight[: old.out_features] = old.weight
        model.head.bias[: old.out_features] = old.bias


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.body(x))


def train(model, optimizer, inputs, labels, steps, batch_size):
    model.train()
    for _ in range(steps):
        index = torch.randint(len(inputs), (batch_size,))
        loss = F.cross_entropy(model(inputs[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    inputs = images.flatten(1)
    first = labels < 5

    model = Net(classes=5)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    loss = train(model, optimizer, inputs[first], labels[first], 20, args.batch_size)
    print(f"first task loss {loss:.4f}")

    grow_head(model, classes=10)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    loss = train(model, optimizer, inputs, labels, 25, args.batch_size)
    print(f"second task loss {loss:.4f}")


if __name__ == "__main__":
    main()
