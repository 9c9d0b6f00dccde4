"""A model with an auxiliary branch that takes part only after some steps; until then it has no gradients."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)
        self.auxiliary = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 64))

    def forward(self, images, with_auxiliary):
        features = self.body(images)
        reconstruction = self.auxiliary(features) if with_auxiliary else None
        return self.head(features), reconstruction


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    model = Net()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    model.train()
    for step in range(args.steps):
        index = torch.randint(1400, (args.batch_size,))
        logits, reconstruction = model(images[index], with_auxiliary=step >= 20)
        loss = F.cross_entropy(logits, labels[index])
        if reconstruction is not None:
            loss = loss + F.mse_loss(reconstruction, images[index].flatten(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 15 == 14:
            print(f"step {step} loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
