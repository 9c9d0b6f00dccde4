"""What the recipes share: a model, its data, a configuration, and how several processes start and end."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import deepspeed.ops
import torch
import torch.distributed as dist
from torch import Tensor, nn

Train = Callable[[argparse.Namespace], None]


class Block(nn.Module):
    """A residual block with dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.grow = nn.Linear(width, 2 * width)
        self.drop = nn.Dropout(0.1)
        self.shrink = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shrink(self.drop(torch.relu(self.grow(self.norm(x)))))


def make_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Block(32), Block(32), nn.LayerNorm(32), nn.Linear(32, 10))


def split_digits(test: int = 360) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Scikit-learn's handwritten digits: ``(training images, labels), (test images, labels)``."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    scaled, target = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels, dtype=torch.long)
    return (scaled[:-test], target[:-test]), (scaled[-test:], target[-test:])


def configuration(args: argparse.Namespace) -> dict[str, Any]:
    """The configuration of DeepSpeed: the stage of ZeRO, the dtype, accumulation and clipping by the engine."""
    return {
        "train_micro_batch_size_per_gpu": args.batch_size,
        "gradient_accumulation_steps": args.accumulation,
        "gradient_clipping": args.clip,
        "bf16": {"enabled": args.bf16},
        "zero_optimization": {"stage": args.stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", type=int, default=1, help="of ZeRO")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="per process")
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--clip", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--local_rank", type=int, help="as the deepspeed launcher gives it; LOCAL_RANK counts")
    return parser


def run(train: Train, args: argparse.Namespace) -> None:
    """``train(args)`` in every process: here under a launcher, otherwise in processes of our own."""
    if "RANK" in os.environ:
        # On a CPU DeepSpeed would first compile a communication library of its own; gloo serves as well.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        torch.set_num_threads(1)
        train(args)
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1])}
    address["WORLD_SIZE"] = str(args.processes)
    started = [
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, **address, "RANK": rank, "LOCAL_RANK": rank})
        for rank in map(str, range(args.processes))
    ]
    sys.exit(max(abs(process.wait()) for process in started))


def leave() -> None:
    """Leave the process group together. Gloo's threads must be idle by then: they do not survive the interpreter."""
    dist.barrier()
    time.sleep(0.2)
    dist.destroy_process_group()
