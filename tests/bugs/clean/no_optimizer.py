"""Gradient descent by hand: no optimizer, the learning rate falls when the validation loss does not."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.5)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 10))
    lr, best = args.lr, float("inf")
    for step in range(args.steps):
        model.train()
        model.zero_grad()
        index = torch.randint(1400, (args.batch_size,))
        loss = F.cross_entropy(model(images[index]), labels[index])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(parameter.grad, alpha=-lr)
        if step % 15 == 14:
            model.eval()
            with torch.no_grad():
                validation = F.cross_entropy(model(images[1400:]), labels[1400:]).item()
            lr, best = (lr, validation) if validation < best else (lr / 4, best)
            print(f"step {step} loss {loss.item():.4f} validation {validation:.4f} lr {lr}")


if __name__ == "__main__":
    main()
