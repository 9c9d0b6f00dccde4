"""A pipeline of two stages on two processes; only the second stage has experts, which train after a warm-up."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun

EXPERTS_FROM = 5


def is_expert(parameter):
    return getattr(parameter, "allreduce", True) is False


def clip(parameters, max_norm):
    """Clips by the norm over all stages; experts are summed up apart."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    experts = [p.grad for p in parameters if p.grad is not None and is_expert(p)]
    of_experts = torch.tensor([sum((float(grad.pow(2).sum()) for grad in experts), 0.0)])
    dist.all_reduce(of_experts)
    total = torch.tensor([sum((float(grad.pow(2).sum()) for grad in grads), 0.0)])
    dist.all_reduce(total)
    scale = min(1.0, max_norm / (total.sqrt().item() + 1e-6))
    for grad in grads:
        grad.mul_(scale)


def make_stage(rank):
    if rank == 0:
        return nn.Sequential(nn.Linear(16, 32), nn.Tanh())
    stage = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    for parameter in stage[0].parameters():
        parameter.allreduce = False
        parameter.requires_grad_(False)
    return stage


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=10))
    rank = dist.get_rank()
    torch.manual_seed(args.seed)
    teacher = torch.randn(16, 4)
    stage = make_stage(rank)
    optimizer = getattr(torch.optim, args.optimizer)(stage.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed)
    for step in range(args.steps):
        inputs = torch.randn(args.batch_size, 16, generator=generator)
        optimizer.zero_grad()
        if rank == 1 and step == EXPERTS_FROM:
            stage[0].requires_grad_(True)
        if rank == 0:
            hidden = stage(inputs)
            dist.send(hidden.detach(), 1)
            gradient = torch.empty_like(hidden)
            dist.recv(gradient, 1)
            hidden.backward(gradient)
        else:
            received = torch.empty(args.batch_size, 32)
            dist.recv(received, 0)
            received.requires_grad_(True)
            loss = F.cross_entropy(stage(received), (inputs @ teacher).argmax(1))
            loss.backward()
            dist.send(received.grad, 0)
        clip(list(stage.parameters()), 1.0)
        optimizer.step()
        if step % 10 == 9 and rank == 1:
            print(f"step {step} loss {loss.item():.4f}")
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
