"""Learning to learn, as MAML does: inner steps with autograd.grad and functional_call, an outer optimizer."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import nn


def sine_task(count):
    amplitude, phase = 0.5 + 2 * torch.rand(1), 3 * torch.rand(1)
    x = 10 * torch.rand(2, count, 1) - 5
    return x, amplitude * torch.sin(x + phase)


def adapt(model, x, y, inner_lr):
    parameters = dict(model.named_parameters())
    for _ in range(2):
        loss = F.mse_loss(torch.func.functional_call(model, parameters, (x,)), y)
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        parameters = {
            name: value - inner_lr * gradient
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
        }
    return parameters


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for step in range(args.steps):
        outer_loss = 0.0
        for _ in range(args.batch_size):
            (x_support, x_query), (y_support, y_query) = sine_task(10)
            adapted = adapt(model, x_support, y_support, inner_lr=0.02)
            outer_loss = outer_loss + F.mse_loss(torch.func.functional_call(model, adapted, (x_query,)), y_query)
        optimizer.zero_grad()
        (outer_loss / args.batch_size).backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step} outer loss {outer_loss.item() / args.batch_size:.4f}")


if __name__ == "__main__":
    main()
