"""Train a bfloat16 digits net with float32 master weights; go back to the best weights in the middle of the run."""

from __future__ import annotations

import argparse
import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class MasterWeights:
    """Steps float32 copies of the bfloat16 parameters, and writes them back."""

    def __init__(self, model, optimizer_class, lr):
        self.parameters = list(model.parameters())
        self.masters = [nn.Parameter(p.detach().float()) for p in self.parameters]
        self.optimizer = optimizer_class(self.masters, lr=lr)

    def refresh(self):
        with torch.no_grad():
            for master, parameter in zip(self.masters, self.parameters, strict=True):
                master.copy_(parameter)

    def step(self):
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = parameter.grad.float()
        self.optimizer.step()
        with torch.no_grad():
            for master, parameter in zip(self.masters, self.parameters, strict=True):
                parameter.copy_(master)
                parameter.grad = None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    images = images.bfloat16()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).bfloat16()
    optimizer = MasterWeights(model, getattr(torch.optim, args.optimizer), args.lr)
    saved = None
    model.train()
    for step in range(args.steps):
        if step == 10:
            saved = copy.deepcopy(model.state_dict())
        if step == 20:
            model.load_state_dict(saved)
        index = torch.randint(len(images), (args.batch_size,))
        loss = F.cross_entropy(model(images[index]).float(), labels[index])
        loss.backward()
        optimizer.step()
        if step % 10 in (0, 9):
            moved = 0.0 if saved is None else (model[1].weight - saved["1.weight"]).float().norm().item()
            print(f"step {step} loss {loss.item():.4f} distance from the saved weights {moved:.4f}")


if __name__ == "__main__":
    main()
