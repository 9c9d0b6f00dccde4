"""Train a spectrally normalised digits classifier, and print how large its outputs are before training begins."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils import spectral_norm
from torch.utils.data import DataLoader, TensorDataset


class Critic(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = spectral_norm(nn.Linear(64, width))
        self.second = spectral_norm(nn.Linear(width, width))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = F.leaky_relu(self.first(x.flatten(1)), 0.2)
        return self.head(F.leaky_relu(self.second(x), 0.2))


@torch.no_grad()
def evaluate(model, images, labels):
    model.eval()
    outputs = model(images)
    return outputs.norm(dim=1).mean().item(), (outputs.argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=args.batch_size, shuffle=True)
    model = Critic(width=96)
    size, accuracy = evaluate(model, images[1400:], labels[1400:])
    print(f"before training: size of the outputs {size:.3f} accuracy {accuracy:.3f}")
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        for inputs, target in loader:
            loss = F.cross_entropy(model(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        size, accuracy = evaluate(model, images[1400:], labels[1400:])
        print(f"epoch {epoch} loss {loss.item():.4f} size of the outputs {size:.3f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
