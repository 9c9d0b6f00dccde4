"""Predict the continuation of sine waves with an LSTM and L-BFGS: an optimizer that calls a closure many times."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn


class Sequence(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, width, batch_first=True)
        self.linear = nn.Linear(width, 1)

    def forward(self, x: Tensor, future: int = 0) -> Tensor:
        hidden, state = self.lstm(x)
        outputs = [self.linear(hidden)]
        for _ in range(future):
            hidden, state = self.lstm(outputs[-1][:, -1:], state)
            outputs.append(self.linear(hidden))
        return torch.cat(outputs, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16, help="number of waves, all used in every step")
    parser.add_argument("--lr", type=float, default=0.8)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    phase = torch.randint(0, 80, (args.batch_size + 4, 1))
    waves = torch.sin((torch.arange(60) + phase) / 5.0).unsqueeze(-1)
    training, testing = waves[:-4], waves[-4:]

    model = Sequence()
    criterion = nn.MSELoss()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=args.lr, max_iter=8)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = criterion(model(training[:, :-1]), training[:, 1:])
        loss.backward()
        return loss

    for step in range(args.steps):
        loss = optimizer.step(closure)
        with torch.no_grad():
            predicted = model(testing[:, :-1], future=10)
            test_loss = criterion(predicted[:, :-10], testing[:, 1:])
        print(f"step {step} loss {loss.item():.5f} test {test_loss.item():.5f}")


if __name__ == "__main__":
    main()
