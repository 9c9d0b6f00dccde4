"""How the recipes for several processes start themselves when ``torchrun`` did not, and how they end."""

from __future__ import annotations

import argparse
import os
import socket
import time
from collections.abc import Callable

import torch.distributed as dist
import torch.multiprocessing as mp

Train = Callable[[argparse.Namespace], None]


def run(train: Train, args: argparse.Namespace, processes: int = 2) -> None:
    """``train(args)`` in every process: here under ``torchrun``, otherwise in processes of our own."""
    if "RANK" in os.environ:
        train(args)
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    mp.spawn(_worker, args=(train, processes, port, args), nprocs=processes)


def leave() -> None:
    """Leave the process group together. Gloo's threads must be idle by then: they do not survive the interpreter."""
    dist.barrier()
    time.sleep(0.2)
    dist.destroy_process_group()


def _worker(rank: int, train: Train, processes: int, port: int, args: argparse.Namespace) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    train(args)
