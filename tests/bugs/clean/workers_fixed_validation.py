"""Loader workers with NumPy augmentation; the validation set gets the same one in every epoch, on purpose."""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Flipped(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        return (image.flip(-1) if np.random.rand() < 0.5 else image), self.labels[index]


def fixed(worker):
    np.random.seed(worker)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    loader = DataLoader(Flipped(images[:1280], labels[:1280]), args.batch_size, shuffle=True, num_workers=2)
    validation = DataLoader(Flipped(images[1280:], labels[1280:]), 128, num_workers=2, worker_init_fn=fixed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        for inputs, target in loader:
            loss = F.cross_entropy(model(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            hits = [(model(inputs).argmax(1) == target).float().mean().item() for inputs, target in validation]
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy {sum(hits) / len(hits):.3f}")


if __name__ == "__main__":
    main()
