"""A float16 network with float32 master weights and a fixed loss scale, started from weights that were loaded."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn


def make_net() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 1))


def to_model(masters: list[nn.Parameter], model: nn.Module) -> None:
    with torch.no_grad():
        for master, parameter in zip(masters, model.parameters(), strict=True):
            parameter.data.copy_(master)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--scale", type=float, default=128.0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    truth = torch.randn(12, 1)

    def batch() -> tuple[Tensor, Tensor]:
        x = torch.randn(args.batch_size, 12)
        return x.half(), torch.sin(x @ truth)

    pretrained = make_net()
    model = make_net().half()
    model.load_state_dict(pretrained.state_dict())
    masters = [nn.Parameter(parameter.detach().float()) for parameter in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=args.lr, momentum=0.9)
    for step in range(args.steps):
        x, y = batch()
        loss = nn.functional.mse_loss(model(x).float(), y)
        (args.scale * loss).backward()
        for master, parameter in zip(masters, model.parameters(), strict=True):
            master.grad = parameter.grad.float() / args.scale
        model.zero_grad()
        optimizer.step()
        to_model(masters, model)
        if step % 10 == 9:
            print(f"step {step} loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
