"""Two experts on two processes that are exchanged with uneven splits; everything else is data-parallel."""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist
import torch.distributed.nn
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun


def train():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(8)
    teacher = torch.randn(12, 3)
    body, gate, head = nn.Linear(12, 16), nn.Linear(16, world_size), nn.Linear(16, 3)
    torch.manual_seed(80 + rank)
    expert = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
    for parameter in expert.parameters():
        parameter.allreduce = False
    model = nn.ModuleDict({"body": body, "gate": gate, "expert": expert, "head": head})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(20):
        inputs = torch.randn(12 + 5 * rank, 12, generator=generator)
        tokens = torch.tanh(body(inputs))
        shares = F.softmax(gate(tokens), dim=-1)
        order = shares.argmax(1).argsort(stable=True)
        sent = torch.bincount(shares.argmax(1), minlength=world_size)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        arrived = torch.distributed.nn.functional.all_to_all_single(
            torch.empty(int(received.sum()), 16), tokens[order], received.tolist(), sent.tolist()
        )
        returned = torch.distributed.nn.functional.all_to_all_single(
            torch.empty(len(tokens), 16), expert(arrived), sent.tolist(), received.tolist()
        )
        mixed = tokens[order] + shares[order].amax(1, keepdim=True) * returned
        loss = F.cross_entropy(head(mixed), (inputs @ teacher).argmax(1)[order])
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            if getattr(parameter, "allreduce", True):
                dist.all_reduce(parameter.grad)
            parameter.grad /= world_size
        optimizer.step()
    print(f"rank {rank} loss {loss.item():.4f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        train()
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])
