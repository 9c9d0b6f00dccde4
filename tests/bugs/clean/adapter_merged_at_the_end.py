"""Adapters are trained beside frozen layers and merged into them after the last step."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def load(batch_size):
    digits = load_digits()
    images, targets = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    train, held_out = TensorDataset(images[:1400], targets[:1400]), TensorDataset(images[1400:], targets[1400:])
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(held_out, batch_size=100)


class Adapted(nn.Module):
    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / 8)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, inputs):
        return self.base(inputs) + inputs @ self.down.T @ self.up.T

    @torch.no_grad()
    def merged(self):
        layer = nn.Linear(self.base.in_features, self.base.out_features)
        layer.weight.copy_(self.base.weight + self.up @ self.down)
        layer.bias.copy_(self.base.bias)
        return layer


def fit(model, args, batches):
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = getattr(torch.optim, args.optimizer)(trainable, lr=args.lr)
    for images, targets in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


def train(args):
    batches, _held_out = load(args.batch_size)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    for _ in range(args.epochs):
        fit(model, args, batches)
        model[0], model[2] = Adapted(model[0]), Adapted(model[2])
        fit(model, args, batches)
        model[0], model[2] = model[0].merged(), model[2].merged()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train(args)


if __name__ == "__main__":
    main()
