"""Train a digits MLP with warm-up and linear decay through a launcher's scheduler wrapper."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


class PreparedScheduler:
    """Steps the wrapped scheduler along with the optimizer, whatever the number of processes."""

    def __init__(self, scheduler, num_processes):
        self.scheduler, self.num_processes = scheduler, num_processes

    def step(self):
        for _ in range(self.num_processes):
            self.scheduler.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)

    def factor(step):
        return min((step + 1) / 5, max(0.0, (args.steps - step) / (args.steps - 5)))

    scheduler = LambdaLR(optimizer, factor)
    prepared = PreparedScheduler(scheduler, num_processes=2)
    model.train()
    for step in range(args.steps):
        index = torch.randint(1400, (args.batch_size,))
        loss = F.cross_entropy(model(images[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        prepared.step()
        if step % 10 == 9:
            print(f"step {step} loss {loss.item():.4f} lr {scheduler.get_last_lr()[0]:.5f}")


if __name__ == "__main__":
    main()
