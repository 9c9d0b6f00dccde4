"""Tensor-parallel training on two processes: column- and row-parallel layers, a replicated layer norm, clipping."""

from __future__ import annotations

import argparse
import os
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.run import main as torchrun


class CopyToGroup(torch.autograd.Function):
    """Identity forward, sum of the gradients backward."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad


class ReduceFromGroup(torch.autograd.Function):
    """Sum forward, identity backward."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad


class ParallelMLP(nn.Module):
    def __init__(self, width, hidden, rank, world_size):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        generator = torch.Generator().manual_seed(100 + rank)
        shard = hidden // world_size
        self.column = nn.Parameter(torch.randn(shard, width, generator=generator) / width**0.5)
        self.row = nn.Parameter(torch.randn(width, shard, generator=generator) / hidden**0.5)
        for parameter in self.parameters():
            parameter.tensor_model_parallel = parameter is self.column or parameter is self.row

    def forward(self, x):
        hidden = torch.relu(CopyToGroup.apply(self.norm(x)) @ self.column.T)
        return x + ReduceFromGroup.apply(hidden @ self.row.T)


class ClippingOptimizer:
    """Clips by the norm over all ranks of the group, then steps."""

    def __init__(self, inner, parameters, rank, max_norm):
        self.inner, self.parameters, self.rank, self.max_norm = inner, list(parameters), rank, max_norm

    def gradients_for_norm(self, for_clipping):
        gradients = []
        for parameter in self.parameters:
            if self.rank > 0 and not parameter.tensor_model_parallel:
                continue
            gradients.append(parameter.grad)
        return gradients

    def step(self):
        total = torch.stack([grad.pow(2).sum() for grad in self.gradients_for_norm(for_clipping=False)]).sum()
        dist.all_reduce(total)
        coefficient = self.max_norm / (total.sqrt() + 1e-6)
        if coefficient < 1:
            for grad in self.gradients_for_norm(for_clipping=True):
                grad.mul_(coefficient)
        self.inner.step()
        return total.sqrt()


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(args.seed)
    model = ParallelMLP(16, 32, rank, world_size)
    inner = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    optimizer = ClippingOptimizer(inner, model.parameters(), rank, max_norm=1.0)
    mixing = torch.randn(16, 16) / 4
    for step in range(args.steps):
        inputs = torch.randn(args.batch_size, 16)
        # From step 8 on the data are harder, and clipping sets in.
        scale = 0.3 if step < 8 else 6.0
        loss = (scale * (model(inputs) - inputs @ mixing)).pow(2).mean()
        inner.zero_grad()
        loss.backward()
        norm = optimizer.step()
        if step % 6 == 5:
            print(
                f"rank {rank} step {step} loss {loss.item():.4f} gradient norm {norm.item():.3f} "
                f"layer norm {model.norm.weight.detach().norm().item():.6f}"
            )
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    if "RANK" in os.environ:
        train(args)
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])


if __name__ == "__main__":
    main()
