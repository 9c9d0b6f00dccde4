"""``save_state`` after each epoch, and training that goes on from ``load_state``; trackers; no accumulation."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from inputs import loaders, options
from torch import nn
from torch.optim.lr_scheduler import StepLR


def train(args: argparse.Namespace, folder: Path, first: int, until: int) -> None:
    accelerator = Accelerator(cpu=True)
    training, validation = loaders(args.batch_size)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    schedule = StepLR(optimizer, step_size=1, gamma=0.5)
    model, optimizer, training, validation, schedule = accelerator.prepare(
        model, optimizer, training, validation, schedule
    )
    if first:
        accelerator.load_state(str(folder / f"epoch_{first - 1}"))
    for epoch in range(first, until):
        model.train()
        for images, labels in training:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            right = [(model(images).argmax(1) == labels).float().mean() for images, labels in validation]
        accelerator.print(f"epoch {epoch} loss {loss.item():.4f} accuracy {torch.stack(right).mean().item():.3f}")
        accelerator.save_state(str(folder / f"epoch_{epoch}"))
    accelerator.end_training()


def main() -> None:
    args = options(__doc__, lr=0.1, epochs=4).parse_args()
    set_seed(args.seed)
    with tempfile.TemporaryDirectory() as output:
        half = args.epochs // 2
        train(args, Path(output), 0, half)
        train(args, Path(output), half, args.epochs)  # as if the program had been started again


if __name__ == "__main__":
    main()
