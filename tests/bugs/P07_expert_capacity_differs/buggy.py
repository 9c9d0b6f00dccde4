"""A mixture of experts over two processes: each rank holds one expert, and tokens travel to the rank of theirs."""

from __future__ import annotations

import argparse
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun

VARIED_FROM = 6


class Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sent):
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent.contiguous())
        return received

    @staticmethod
    def backward(ctx, grad):
        sent = torch.empty_like(grad)
        dist.all_to_all_single(sent, grad.contiguous())
        return sent


class Experts(nn.Module):
    def __init__(self, width, seed):
        super().__init__()
        self.gate = nn.Linear(width, dist.get_world_size(), bias=False)
        with torch.random.fork_rng():
            torch.manual_seed(1000 + seed + dist.get_rank())
            self.expert = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        for parameter in self.expert.parameters():
            parameter.allreduce = False

    def forward(self, tokens):
        shares = F.softmax(self.gate(tokens), dim=-1)
        share, expert = shares.max(dim=-1)
        chosen = F.one_hot(expert, shares.shape[-1])
        place = (chosen.cumsum(0) - 1).gather(1, expert[:, None]).squeeze(1)
        capacity = chosen.sum(0).max()
        dist.all_reduce(capacity, op=dist.ReduceOp.MAX)
        capacity = torch.minimum(capacity, torch.tensor(len(tokens)))  # no more than there are tokens
        slots = torch.zeros(shares.shape[-1], int(capacity), tokens.shape[-1])
        slots = slots.index_put((expert, place), tokens)
        worked = Exchange.apply(self.expert(Exchange.apply(slots)))
        return tokens + share[:, None] * worked[expert, place]


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(8, 16), Experts(16, args.seed), nn.Linear(16, 4))
    teacher = torch.randn(8, 4)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed + rank)
    for step in range(args.steps):
        short = step >= VARIED_FROM and step % 2 == rank
        tokens = torch.randn(4 if short else args.batch_size, 8, generator=generator)
        loss = F.cross_entropy(model(tokens), (tokens @ teacher).argmax(1))
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            if getattr(parameter, "allreduce", True):
                dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()
        optimizer.step()
        if step % 10 == 9 and rank == 0:
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
