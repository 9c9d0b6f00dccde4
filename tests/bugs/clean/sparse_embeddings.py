"""Sparse embedding gradients with SparseAdam beside a dense optimizer: two optimizers, one backward pass."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    # Every pixel intensity is a word of its own: 64 positions times 17 levels.
    words = (images.flatten(1) * 16).long() + 17 * torch.arange(64)
    embedding = nn.EmbeddingBag(64 * 17, 16, mode="mean", sparse=True)
    head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))
    sparse = torch.optim.SparseAdam(embedding.parameters(), lr=0.05)
    dense = getattr(torch.optim, args.optimizer)(head.parameters(), lr=args.lr)
    for step in range(args.steps):
        index = torch.randint(1400, (args.batch_size,))
        loss = F.cross_entropy(head(embedding(words[index])), labels[index])
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        sparse.step()
        dense.step()
        if step % 20 == 19:
            with torch.no_grad():
                accuracy = (head(embedding(words[1400:])).argmax(1) == labels[1400:]).float().mean().item()
            print(f"step {step} loss {loss.item():.4f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
