"""Train a digits net and evaluate the exponential moving average of its weights."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    return (model(images).argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=args.batch_size, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
        own = accuracy(model, images[1400:], labels[1400:])
        averaged = accuracy(ema, images[1400:], labels[1400:])
        print(
            f"epoch {epoch} loss {loss.item():.4f} accuracy {own:.3f} averaged {averaged:.3f} "
            f"averaged steps {ema.n_averaged.item()}"
        )


if __name__ == "__main__":
    main()
