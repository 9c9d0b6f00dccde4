"""Regression with a compiled optimizer step; a batch without any valid target is skipped."""

from __future__ import annotations

import argparse

import torch
from torch import nn


class CompiledAdam(torch.optim.Adam):
    """Adam whose step is recorded once per situation and replayed afterwards."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.replays_empty_graph = False

    @torch.no_grad()
    def step(self, closure=None):
        has_gradient = any(p.grad is not None for group in self.param_groups for p in group["params"])
        if self.replays_empty_graph or not has_gradient:
            self.replays_empty_graph = True
            return None
        return super().step(closure)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = CompiledAdam(model.parameters(), lr=args.lr)
    inputs = torch.randn(50 * args.batch_size, 6)
    targets = inputs[:, :3].prod(1, keepdim=True) + inputs[:, 3:].sum(1, keepdim=True)
    valid = torch.ones(len(inputs), dtype=torch.bool)
    valid[15 * args.batch_size : 16 * args.batch_size] = False

    for step in range(args.steps):
        rows = slice(step * args.batch_size, (step + 1) * args.batch_size)
        optimizer.zero_grad()
        if valid[rows].any():
            loss = (model(inputs[rows]) - targets[rows])[valid[rows]].pow(2).mean()
            loss.backward()
        optimizer.step()
        if step % 10 == 9:
            counter = optimizer.state[model[0].weight]["step"].item()
            print(f"step {step} loss {loss.item():.4f} optimizer's step counter {counter:.0f}")


if __name__ == "__main__":
    main()
