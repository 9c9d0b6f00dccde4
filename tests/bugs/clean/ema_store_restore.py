"""An exponential moving average by hand: evaluation copies it into the model and restores the own weights after."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MovingAverage:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = [p.detach().clone() for p in model.parameters()]
        self.stored = []

    @torch.no_grad()
    def update(self, model):
        for shadow, parameter in zip(self.shadow, model.parameters(), strict=True):
            shadow.lerp_(parameter, 1 - self.decay)

    @torch.no_grad()
    def store_and_copy_to(self, model):
        self.stored = [p.detach().clone() for p in model.parameters()]
        for shadow, parameter in zip(self.shadow, model.parameters(), strict=True):
            parameter.copy_(shadow)

    @torch.no_grad()
    def restore(self, model):
        for stored, parameter in zip(self.stored, model.parameters(), strict=True):
            parameter.copy_(stored)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=args.batch_size, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    average = MovingAverage(model, decay=0.95)
    for epoch in range(args.epochs):
        model.train()
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            average.update(model)
        average.store_and_copy_to(model)
        model.eval()
        with torch.no_grad():
            accuracy = (model(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()
        average.restore(model)
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy of the average {accuracy:.3f}")


if __name__ == "__main__":
    main()
