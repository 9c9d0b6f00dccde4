"""What the recipes for Lightning share: digits as loaders, options, and a Trainer that is quiet and on the CPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

sys.path.append(str(Path(__file__).resolve().parent.parent / "pytorch"))

from data import digits, split_digits, topics_bytes

__all__ = ["Loader", "digits", "loaders", "options", "quiet", "topics_bytes"]

Loader = DataLoader[tuple[torch.Tensor, ...]]


def loaders(batch_size: int, images: int = 1437) -> tuple[Loader, Loader]:
    """Batches of digits to train on, of the first ``images``, and others to validate on."""
    (train, labels), testing = split_digits()
    training = DataLoader(TensorDataset(train[:images], labels[:images]), batch_size=batch_size, shuffle=True)
    return training, DataLoader(TensorDataset(*testing), batch_size=180)


def options(doc: str | None, *, batch_size: int = 48, lr: float = 3e-3, epochs: int = 2) -> argparse.ArgumentParser:
    """Options for what a user changes from run to run."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--lr", type=float, default=lr)
    return parser


def quiet(output: str) -> dict[str, Any]:
    """For the ``Trainer``: all on the CPU, no bars, no summaries."""
    torch.set_num_threads(1)
    return {
        "accelerator": "cpu",
        "default_root_dir": output,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
