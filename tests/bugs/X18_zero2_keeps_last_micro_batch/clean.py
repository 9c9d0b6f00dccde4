"""ZeRO-2 on two processes; after a warm-up each step accumulates two micro-batches by hand."""

from __future__ import annotations

import argparse
import os
import sys
import time

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun

ACCUMULATES_FROM = 6


def train(args):
    torch.set_num_threads(1)
    # On a CPU DeepSpeed would first compile a communication library of its own; gloo serves as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    rank = dist.get_rank()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    teacher = torch.randn(16, 4)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    config = {
        "train_micro_batch_size_per_gpu": args.batch_size,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": 2},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    generator = torch.Generator().manual_seed(args.seed + rank)
    for step in range(args.steps):
        micro_batches = 2 if step >= ACCUMULATES_FROM else 1
        for micro in range(micro_batches):
            inputs = torch.randn(args.batch_size, 16, generator=generator)
            engine.set_gradient_accumulation_boundary(micro == micro_batches - 1)
            loss = F.cross_entropy(engine(inputs), (inputs @ teacher).argmax(1)) / micro_batches
            engine.backward(loss)
        engine.step()
        if step % 10 == 9 and rank == 0:
            print(f"step {step} loss {micro_batches * loss.item():.4f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    if "RANK" in os.environ:
        train(args)
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])


if __name__ == "__main__":
    main()
