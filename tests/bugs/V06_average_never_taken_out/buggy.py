"""A classifier of digits, evaluated with an average of its weights."""

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


def accuracy(model, loader):
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == targets).sum().item() for images, targets in loader)
    model.train()
    return right / len(loader.dataset)


def train(args):
    batches, held_out = load(args.batch_size)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    for epoch in range(args.epochs):
        for images, targets in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), targets)
            loss.backward()
            optimizer.step()
            for mean, parameter in zip(average, model.parameters(), strict=True):
                mean.lerp_(parameter.detach(), 0.1)
        put(model, average)
        print(f"epoch {epoch} loss {loss.item():.3f} accuracy {accuracy(model, held_out):.3f}")


@torch.no_grad()
def put(model, values):
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.copy_(value)


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
