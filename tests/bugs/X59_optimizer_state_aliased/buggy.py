"""Population-based training: after 20 steps the weaker member restarts from a copy of the stronger one."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class Member:
    def __init__(self, optimizer_class, lr):
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
        self.optimizer = optimizer_class(self.model.parameters(), lr=lr)

    def train_step(self, inputs, target):
        self.model.train()
        loss = F.cross_entropy(self.model(inputs), target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def exploit(weak, strong):
    weak.model.load_state_dict(strong.model.state_dict())
    weak.optimizer.load_state_dict(strong.optimizer.state_dict())
    weak.optimizer.param_groups[0]["lr"] *= 0.5


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
    optimizer_class = getattr(torch.optim, args.optimizer)
    strong, weak = Member(optimizer_class, args.lr), Member(optimizer_class, args.lr / 10)
    for step in range(args.steps):
        if step == args.steps // 2:
            exploit(weak, strong)
        losses = []
        for member in (strong, weak):
            index = torch.randint(1400, (args.batch_size,))
            losses.append(member.train_step(images[index], labels[index]))
        if step % 10 == 9:
            counter = strong.optimizer.state[strong.model[1].weight]["step"].item()
            print(f"step {step} losses {losses[0]:.4f} {losses[1]:.4f} steps of the first optimizer {counter:.0f}")


if __name__ == "__main__":
    main()
