"""Lookahead around another optimizer: every fifth step goes back half the way."""

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


class Lookahead:
    def __init__(self, optimizer, every=5, share=0.5):
        self.optimizer, self.every, self.share, self.steps = optimizer, every, share, 0
        self.slow = [parameter.detach().clone() for parameter in self._parameters()]

    def _parameters(self):
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self):
        self.optimizer.step()
        self.steps += 1
        if self.steps % self.every == 0:
            for slow, parameter in zip(self.slow, self._parameters(), strict=True):
                slow.lerp_(parameter, self.share)
                parameter.copy_(slow)


def train(args):
    batches, held_out = load(args.batch_size)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    lookahead = Lookahead(optimizer)
    for epoch in range(args.epochs):
        model.train()
        for images, targets in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), targets)
            loss.backward()
            lookahead.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(images).argmax(1) == targets).sum().item() for images, targets in held_out)
        print(f"epoch {epoch} loss {loss.item():.3f} right {right}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train(args)


if __name__ == "__main__":
    main()
