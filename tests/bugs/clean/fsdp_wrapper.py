"""FullyShardedDataParallel on two processes, with units, accumulation under no_sync, and its own clipping."""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.run import main as torchrun


def train():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Linear(12, 40), nn.LayerNorm(40), nn.GELU(), nn.Linear(40, 40), nn.GELU(), nn.Linear(40, 3)
    )
    cpu = torch.device("cpu")
    model = FullyShardedDataParallel(network, auto_wrap_policy=ModuleWrapPolicy({nn.Linear}), device_id=cpu)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    teacher = torch.randn(12, 3)
    generator = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(20):
        for micro in range(2):
            inputs = torch.randn(16, 12, generator=generator)
            loss = F.cross_entropy(model(inputs), (inputs @ teacher).argmax(1)) / 2
            if micro == 0:
                with model.no_sync():
                    loss.backward()
            else:
                loss.backward()
        model.clip_grad_norm_(0.5)
        optimizer.step()
        optimizer.zero_grad()
    print(f"rank {dist.get_rank()} loss {2 * loss.item():.4f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        train()
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])
