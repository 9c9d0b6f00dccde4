"""Population-based training: now and then the worst model goes on from the best one's weights and optimizer state."""

from __future__ import annotations

import argparse
import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(labels)
    members = [nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10)) for _ in range(2)]
    kind = getattr(torch.optim, args.optimizer)
    optimizers = [kind(model.parameters(), lr=args.lr * (1 + place)) for place, model in enumerate(members)]
    for step in range(args.steps):
        losses = []
        for model, optimizer in zip(members, optimizers, strict=True):
            index = torch.randint(len(images), (args.batch_size,))
            loss = F.cross_entropy(model(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if step % 10 == 9:
            best, worst = sorted(range(2), key=losses.__getitem__)
            members[worst].load_state_dict(copy.deepcopy(members[best].state_dict()))
            optimizers[worst].load_state_dict(copy.deepcopy(optimizers[best].state_dict()))
            print(f"step {step} best loss {min(losses):.4f}: member {best}")


if __name__ == "__main__":
    main()
