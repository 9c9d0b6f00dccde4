"""A pretrained, spectrally normalised backbone: evaluated first, frozen for an epoch, then all of it trains."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils import spectral_norm
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, frozen_layers=0, freeze_bn=True):
        super().__init__()
        self.frozen_layers, self.freeze_bn = frozen_layers, freeze_bn
        self.body = nn.Sequential(spectral_norm(nn.Linear(64, 96)), nn.BatchNorm1d(96), nn.ReLU())
        self.head = nn.Linear(96, 10)
        self.body.requires_grad_(not frozen_layers)

    def forward(self, x):
        return self.head(self.body(x.flatten(1)))


def train_epoch(model, loader, optimizer):
    model.train()
    for inputs, target in loader:
        loss = F.cross_entropy(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=args.batch_size, shuffle=True)
    kind = getattr(torch.optim, args.optimizer)
    pretrained = Net()
    train_epoch(pretrained, loader, kind(pretrained.parameters(), lr=args.lr))
    model = Net(frozen_layers=2)
    model.load_state_dict(pretrained.state_dict())
    model.eval()
    with torch.no_grad():
        print(f"before: accuracy {(model(images[1400:]).argmax(1) == labels[1400:]).float().mean().item():.3f}")
    optimizer = kind(model.head.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        if epoch == 1:
            model.body.requires_grad_(True)
            optimizer.add_param_group({"params": list(model.body.parameters()), "lr": args.lr / 10})
        print(f"epoch {epoch} loss {train_epoch(model, loader, optimizer):.4f}")


if __name__ == "__main__":
    main()
