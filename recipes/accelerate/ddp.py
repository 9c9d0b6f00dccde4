"""Two processes: DistributedDataParallel over gloo, accumulation, evaluation on both, saving and loading the state.

Starts its own two processes, or runs under ``torchrun --nproc-per-node 2 recipes/accelerate/ddp.py``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from inputs import leave, loaders, options, run
from torch import nn


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def train(args: argparse.Namespace) -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.accumulation)
    set_seed(args.seed)
    training, validation = loaders(args.batch_size)
    model = make_model()
    model, optimizer, training, validation = accelerator.prepare(
        model, torch.optim.AdamW(model.parameters(), lr=args.lr), training, validation
    )
    folder = args.output / f"accelerate_ddp_{os.environ['MASTER_PORT']}"
    for epoch in range(args.epochs):
        model.train()
        for images, labels in training:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(images), labels)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
        right = total = 0
        with torch.no_grad():
            for images, labels in validation:
                guesses, truth = accelerator.gather_for_metrics((model(images).argmax(dim=-1), labels))
                right += int((guesses == truth).sum())
                total += len(truth)
        accelerator.print(f"epoch {epoch} loss {loss.item():.4f} accuracy {right / total:.3f}")
        accelerator.save_state(str(folder))
        accelerator.wait_for_everyone()
    accelerator.load_state(str(folder))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(folder)
    leave()


def main() -> None:
    parser = options(__doc__, batch_size=24)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir()), help="where the checkpoint goes")
    run(train, parser.parse_args())


if __name__ == "__main__":
    main()
