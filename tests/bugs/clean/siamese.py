"""A Siamese network: one encoder runs twice per step, on pairs of digits that are equal or not."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 32))
        self.score = nn.Linear(32, 1)

    def forward(self, first, second):
        return self.score((self.encoder(first) - self.encoder(second)).abs()).squeeze(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--optimizer", default="Adadelta", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    model = Siamese()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.7)
    for step in range(args.steps):
        model.train()
        a, b = torch.randint(1400, (2, args.batch_size))
        same = torch.where(torch.rand(args.batch_size) < 0.5, a, b)
        target = (labels[a] == labels[same]).float()
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(images[a], images[same]), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 20 == 19:
            model.eval()
            with torch.no_grad():
                output = model(images[1400:1590], images[1590:1780])
            truth = labels[1400:1590] == labels[1590:1780]
            print(f"step {step} loss {loss.item():.4f} agreement {((output > 0) == truth).float().mean().item():.3f}")


if __name__ == "__main__":
    main()
