"""Data-parallel training with BatchNorm; only rank 0 evaluates, saves, and reports to the others."""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def train():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(5)
    teacher = torch.randn(12, 3)
    inputs = torch.randn(320, 12)
    data = TensorDataset(inputs, (inputs @ teacher).argmax(1))
    held_out = torch.randn(64, 12)
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=16, sampler=sampler)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        model.train()
        for batch, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch), labels)
            loss.backward()
            optimizer.step()
        score = torch.zeros(1)
        if rank == 0:
            model.eval()
            with torch.no_grad():
                right = model.module(held_out).argmax(1) == (held_out @ teacher).argmax(1)
                score = right.float().mean().reshape(1)
            torch.save(model.module.state_dict(), "model.pt")
        dist.broadcast(score, src=0)
        print(f"rank {rank} epoch {epoch} score {score.item():.3f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        train()
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])
