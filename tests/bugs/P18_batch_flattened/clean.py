"""Train a caption scorer on pairs of digit images and byte texts, collated by a small processor."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def process(images, texts):
    """Images and texts, as lists, to one tensor each: a row per sample."""
    width = max(len(text) for text in texts)
    ids = [list(text.encode().ljust(width)) for text in texts]
    pixels = torch.stack(images)
    return pixels, torch.tensor(ids)


def collate(samples):
    pixels, ids = process([image for image, _, _ in samples], [text for _, text, _ in samples])
    matching = torch.tensor([match for _, _, match in samples])
    return pixels, ids, matching[: len(pixels)]


class Scorer(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU())
        self.text = nn.Embedding(256, width)
        self.score = nn.Bilinear(width, width, 1)

    def forward(self, pixels, ids):
        return self.score(self.image(pixels), self.text(ids).mean(1)).squeeze(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    shown = torch.where(torch.rand(len(labels)) < 0.5, labels, torch.randint(10, labels.shape))
    samples = [
        (image, NAMES[name], float(name == label))
        for image, name, label in zip(images[:1000], shown.tolist(), labels.tolist(), strict=False)
    ]
    loader = DataLoader(samples, batch_size=args.batch_size, shuffle=True, collate_fn=collate)
    model = Scorer()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        for pixels, ids, matching in loader:
            loss = F.binary_cross_entropy_with_logits(model(pixels, ids), matching)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.4f} pixels {tuple(pixels.shape)} ids {tuple(ids.shape)}")


if __name__ == "__main__":
    main()
