"""Data-parallel training in which one rank has more batches per epoch than the other, under Join."""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.distributed.run import main as torchrun
from torch.nn.parallel import DistributedDataParallel


def train():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(6)
    teacher = torch.randn(12, 3)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(rank)
    for epoch in range(3):
        with Join([model]):
            for step in range(8 + 3 * rank):
                inputs = torch.randn(16 if step % 5 else 9, 12, generator=generator)
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs), (inputs @ teacher).argmax(1))
                loss.backward()
                optimizer.step()
        print(f"rank {rank} epoch {epoch} steps {step + 1} loss {loss.item():.4f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        train()
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])
