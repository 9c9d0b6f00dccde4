"""fully_shard on two processes: parameters of mixed precision, sharded one by one, clipped over all shards."""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.run import main as torchrun


def train():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(4)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = nn.Sequential(nn.Linear(12, 40), nn.LayerNorm(40), nn.GELU(), nn.Linear(40, 3))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    fully_shard(model[0], mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    teacher = torch.randn(12, 3)
    generator = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(20):
        inputs = torch.randn(16, 12, generator=generator)
        loss = F.cross_entropy(model(inputs).float(), (inputs @ teacher).argmax(1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    print(f"rank {dist.get_rank()} loss {loss.item():.4f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        train()
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])
