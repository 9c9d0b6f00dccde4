"""What the recipes for Accelerate share: the digits, options, and how several processes are started."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

sys.path.append(str(Path(__file__).resolve().parent.parent / "pytorch"))

from data import digits, split_digits
from processes import leave, run

__all__ = ["Loader", "digits", "leave", "loaders", "options", "run"]

Loader = DataLoader[tuple[torch.Tensor, ...]]


def loaders(batch_size: int) -> tuple[Loader, Loader]:
    """Batches of digits to train on, and others to evaluate with."""
    training, testing = split_digits()
    torch.set_num_threads(1)
    return (
        DataLoader(TensorDataset(*training), batch_size=batch_size, shuffle=True),
        DataLoader(TensorDataset(*testing), batch_size=180),
    )


def options(doc: str | None, *, batch_size: int = 48, lr: float = 3e-3, epochs: int = 2) -> argparse.ArgumentParser:
    """Options for what a user changes from run to run."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--lr", type=float, default=lr)
    return parser
