"""A bfloat16 model that is trained directly, with a float32 average of its weights, updated every other step."""

from __future__ import annotations

import argparse
import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(labels)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).bfloat16()
    average = AveragedModel(
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), multi_avg_fn=get_ema_multi_avg_fn(0.8)
    )
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for step in range(args.steps):
        index = torch.randint(len(images), (args.batch_size,))
        loss = F.cross_entropy(model(images[index].bfloat16()).float(), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 2:
            average.update_parameters(copy.deepcopy(model).float())
        if step % 20 == 19:
            with torch.no_grad():
                accuracy = (average(images).argmax(1) == labels).float().mean().item()
            print(f"step {step} loss {loss.item():.4f} accuracy of the average {accuracy:.3f}")


if __name__ == "__main__":
    main()
