"""Fit a smooth function of two variables with an MLP: full batch in every step, no loader."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn


def make_points(count: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 2) * 4 - 2
    y = torch.sin(2 * x[:, :1]) + 0.5 * x[:, 1:] ** 2
    return x, y + 0.05 * torch.randn_like(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=256, help="number of points, all used in every step")
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    x, y = make_points(args.batch_size)
    x_held_out, y_held_out = make_points(128)

    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    loss_function = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)

    for step in range(args.steps):
        loss = loss_function(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            with torch.no_grad():
                held_out = loss_function(model(x_held_out), y_held_out)
            print(f"step {step} loss {loss.item():.4f} held out {held_out.item():.4f}")


if __name__ == "__main__":
    main()
