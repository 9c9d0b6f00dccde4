"""Optimise an input image against a trained, frozen classifier: the only trained tensor is no model parameter."""

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
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    trainer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        index = torch.randint(1400, (args.batch_size,))
        trainer.zero_grad()
        F.cross_entropy(model(images[index]), labels[index]).backward()
        trainer.step()

    model.eval()
    model.requires_grad_(False)
    image = torch.full((1, 1, 8, 8), 0.5, requires_grad=True)
    optimizer = getattr(torch.optim, args.optimizer)([image], lr=args.lr)
    target = torch.tensor([3])
    for step in range(args.steps):
        optimizer.zero_grad()
        roughness = (image[..., 1:] - image[..., :-1]).pow(2).mean()
        loss = F.cross_entropy(model(image), target) + roughness
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        if step % 10 == 9:
            print(f"step {step} loss {loss.item():.4f} probability {model(image).softmax(1)[0, 3].item():.3f}")


if __name__ == "__main__":
    main()
