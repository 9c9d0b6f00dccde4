"""Gradual unfreezing: the head first, then deeper layers join the optimizer through add_param_group."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=0.3)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    train_set = torch.utils.data.TensorDataset(images[:1400], labels[:1400])
    loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    stages = nn.ModuleList(
        [
            nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU()),
            nn.Sequential(nn.Linear(96, 48), nn.ReLU()),
            nn.Linear(48, 10),
        ]
    )
    model = nn.Sequential(*stages)
    stages[:2].requires_grad_(False)
    optimizer = getattr(torch.optim, args.optimizer)(stages[2].parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        if epoch > 0:
            unfrozen = stages[2 - epoch]
            unfrozen.requires_grad_(True)
            optimizer.add_param_group({"params": list(unfrozen.parameters()), "lr": args.lr / 2**epoch})
        model.train()
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()
        print(f"epoch {epoch} groups {len(optimizer.param_groups)} loss {loss.item():.4f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
