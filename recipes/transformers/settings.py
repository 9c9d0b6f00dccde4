"""The command line that the recipes share, and the arguments of the Trainer that follow from it."""

from __future__ import annotations

import argparse
from typing import Any


def parser(doc: str | None, *, batch_size: int = 16, lr: float = 2e-3, epochs: float = 2.0) -> argparse.ArgumentParser:
    """Options for what a user changes from run to run."""
    options = argparse.ArgumentParser(description=doc)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--epochs", type=float, default=epochs)
    options.add_argument("--batch-size", type=int, default=batch_size)
    options.add_argument("--lr", type=float, default=lr)
    options.add_argument("--optim", default="adamw_torch_fused")
    options.add_argument("--schedule", default="linear")
    options.add_argument("--warmup-steps", type=int, default=0)
    options.add_argument("--accumulation", type=int, default=1)
    options.add_argument("--bf16", action="store_true")
    return options


def common(args: argparse.Namespace, output: str) -> dict[str, Any]:
    """For ``TrainingArguments``: all on the CPU, nothing on a hub, no progress bars."""
    return {
        "output_dir": output,
        "seed": args.seed,
        "num_train_epochs": args.epochs,
        "per_device_train_batch_size": args.batch_size,
        "gradient_accumulation_steps": args.accumulation,
        "learning_rate": args.lr,
        "optim": args.optim,
        "lr_scheduler_type": args.schedule,
        "warmup_steps": args.warmup_steps,
        "bf16": args.bf16,
        "logging_steps": 10,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
